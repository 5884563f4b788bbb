"""Cohorts of impostors, and the thresholds that they give.

A cohort holds the judges' embeddings of images of nobody in particular: same generator, no
identity guide. Thresholds are chosen so that at most a share `fmr` of it passes all judges
together, each judge letting through the same number on its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sosie.core import CohortRate
from sosie.core.errors import BadModelError
from sosie.files.arrays import read_arrays
from sosie.files.foreign import parse_json
from sosie.files.regular import read_bytes
from sosie.files.whole import make_folder, whole_stream

Vectors = NDArray[np.float32]
STEP = 1e-4

MAX_BYTES = 64_000_000
"""Of a cohort, packed and unpacked; one of 10,000 images by two judges has 60 MB."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Embeddings of impostors by each judge, float32 [n, d], row i of each from the same image.

    `name` is how a score names it; `encoders` maps a judge to the SHA-256 of its weights: an
    embedding by other weights says nothing. `generator` is the digest of the stages and weights
    that rendered it (empty: the cohort lies beside its model), `descriptions` whom the images
    show: one a row, or a single one for all. `changes` are [node, input, value]: what took the
    character out of a user's workflow.
    """

    name: str
    generator: str
    descriptions: tuple[str, ...]
    encoders: Mapping[str, str]
    embeddings: Mapping[str, Vectors]
    sha256: str
    changes: tuple[tuple[str, str, Any], ...] = ()

    @property
    def n(self) -> int:
        """How many images."""
        return min((len(rows) for rows in self.embeddings.values()), default=0)


def load_cohort(path: Path) -> Cohort:
    """Reads a cohort file; `BadModelError` if it is damaged or of another kind."""
    data = read_bytes(path, MAX_BYTES, "the cohort")
    try:
        arrays = read_arrays(data, MAX_BYTES)
        meta: dict[str, Any] = parse_json(str(arrays["meta"]), strict=True)
        encoders = {str(name): str(sha) for name, sha in meta["encoders"].items()}
        embeddings = {name: np.asarray(arrays[name], np.float32) for name in encoders}
        name, generator = str(meta["name"]), str(meta["generator"])
        descriptions = tuple(str(text) for text in meta["descriptions"])
        changes = tuple((str(node), str(name), value) for node, name, value in meta.get("changes", ()))
    except Exception as error:  # a hostile archive can fail in many ways, none of them ours
        raise BadModelError(f"{path} is not a cohort: {error}", "sosie calibrate CHARACTER") from None
    if len({len(rows) for rows in embeddings.values()}) > 1 or any(rows.ndim != 2 for rows in embeddings.values()):
        raise BadModelError(f"{path} is damaged: its judges saw different images", "sosie calibrate CHARACTER")
    cohort = Cohort(name, generator, descriptions, encoders, embeddings, hashlib.sha256(data).hexdigest(), changes)
    if len(descriptions) not in (1, cohort.n):
        raise BadModelError(f"{path} is damaged: {len(descriptions)} descriptions for {cohort.n} images")
    return cohort


def save_cohort(cohort: Cohort, path: Path) -> None:
    """Writes a cohort file, whole or not at all."""
    meta: dict[str, Any] = {"name": cohort.name, "generator": cohort.generator}
    meta |= {"descriptions": list(cohort.descriptions), "changes": [list(change) for change in cohort.changes]}
    arrays = cast("dict[str, Any]", {name: np.asarray(rows, np.float32) for name, rows in cohort.embeddings.items()})
    make_folder(path.parent)
    with whole_stream(path) as file:
        np.savez_compressed(file, meta=json.dumps({**meta, "encoders": dict(cohort.encoders)}), **arrays)


def nearest_in_description(cohort: Cohort, description: str, count: int) -> Cohort:
    """The `count` images whose descriptions share the most words with `description`.

    An image of the same age, sex, skin and hair is a harder impostor than a random person. The
    whole cohort if it holds no more, or if its images are not described one by one.
    """
    if cohort.n <= count or len(cohort.descriptions) < cohort.n:
        return cohort
    wanted = _words(description)
    shared = np.array([len(wanted & _words(text)) for text in cohort.descriptions])
    rows: list[int] = np.sort(np.argsort(-shared, kind="stable")[:count]).tolist()
    return Cohort(
        f"{cohort.name}, the {count} nearest in description",
        cohort.generator,
        tuple(cohort.descriptions[row] for row in rows),
        cohort.encoders,
        {judge: values[rows] for judge, values in cohort.embeddings.items()},
        hashlib.sha256(f"{cohort.sha256}:{rows}".encode()).hexdigest(),
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower()))


def rate(name: str, matches: NDArray[np.bool_]) -> CohortRate:
    """The false-match rate of a cohort of which `matches` [n] passed."""
    n, k = len(matches), int(matches.sum())
    return CohortRate(name, n, k, k / n if n else 0.0, clopper_pearson_upper(k, n))


def choose_thresholds(scores: Mapping[str, NDArray[np.float64]], fmr: float) -> dict[str, float]:
    """One threshold a judge: the loosest that let at most `fmr` of the cohort pass all of them.

    `scores` are [n] a judge, higher is better, row i from the same image. All judges get the
    same rank: the k best of the cohort pass each one on its own, and k is the largest for which
    at most floor(fmr * n) pass together. A score passes when it is at or above its threshold.
    """
    ordered = {judge: np.sort(values)[::-1] for judge, values in scores.items()}
    n = min(len(values) for values in scores.values())
    allowed = math.floor(fmr * n + 1e-9)
    for k in range(n, -1, -1):
        thresholds = {judge: _above(values, k) for judge, values in ordered.items()}
        together = np.ones(n, np.bool_)
        for judge, values in scores.items():
            together &= values >= thresholds[judge]
        if int(together.sum()) <= allowed:
            return thresholds
    raise AssertionError("k = 0 lets nobody pass")


def _above(ordered: NDArray[np.float64], k: int) -> float:
    """The smallest multiple of STEP above the (k+1)-th best score (below the worst, if none is)."""
    beaten = float(ordered[k]) if k < len(ordered) else float(ordered[-1]) - 2 * STEP
    return round((math.floor(beaten / STEP) + 1) * STEP, 4)


def clopper_pearson_upper(k: int, n: int, confidence: float = 0.95) -> float:
    """One-sided upper bound of a rate of k in n (Clopper and Pearson 1934); 1.0 for n = 0.

    For k = 0 it is close to 3/n ("rule of three").
    """
    if n == 0 or k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _binomial_cdf(k, n, middle) > 1 - confidence else (low, middle)
    return high


def _binomial_cdf(k: int, n: int, p: float) -> float:
    if p <= 0:
        return 1.0
    if p >= 1:
        return float(k >= n)
    logs = (
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(math.exp(value) for value in logs))
