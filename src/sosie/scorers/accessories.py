"""What everybody may wear: accessories that make strangers alike, noticed in a template and given to the cohort.

Spectacles, heavy make-up or a tint move every embedding the same way. A character whose references all have one is
nearer to strangers with the same than a cohort of bare faces tells, so a rate by that cohort does not hold. The
package has the mean shift of each by each built-in judge (`benchmarks/accessories.py` makes them). Where a template
lies further along a shift than the cohort does, by what people differ in along it (a linear discriminant), the
cohort's embeddings are shifted as far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sosie.files.arrays import read_arrays

if TYPE_CHECKING:
    from sosie.faces.encoders import Encoder
    from sosie.scorers.cohort import Cohort

Array = NDArray[np.float64]
Templates = Mapping[str, "tuple[Encoder, NDArray[np.float32]]"]

MAX_BYTES = 1_000_000
"""Of the file of shifts; seven by two judges have 15 kB."""

LIMIT = 4.0
"""Standard deviations of the cohort at which a template has an accessory."""

LEAST_SHARE = 0.25
"""The least share of an accessory's mean shift that counts as one."""

DOUBT = 0.4
"""The share of its mean shift from which a template may have one that stands out less than `LIMIT`."""

STRICTER = 0.3
"""The share of the asked false-match rate that thresholds by a matched cohort aim at: strangers in the very same
spectacles share more than the mean shift, and pass more often than the matched cohort does."""

RIDGE = 0.3
"""How much of the mean variance is added to the variance along each axis: a cohort may have fewer images than axes."""


@dataclass(frozen=True, eq=False)
class Worn:
    """An accessory that the references have.

    `share` is how much of its mean shift (1: as in the faces that it was measured on), `deviations` by how many
    standard deviations of the cohort the template stands out.
    """

    shift: Shift
    share: float
    deviations: float

    @property
    def is_sure(self) -> bool:
        """Whether the references have it, and not only may."""
        return self.deviations >= LIMIT


@dataclass(frozen=True, eq=False)
class Shift:
    """The mean shift [d] that an accessory makes in one kind of pictures, by the SHA-256 of the judge's weights."""

    name: str
    by_judge: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Known:
    """What the package knows: `shifts`, an accessory having one for each kind of pictures, as they are little alike.

    `bare` are faces [n, d] of each kind without any, by the SHA-256 of the judge's weights, row i of each from the
    same picture: what people and kinds of pictures differ in is no accessory.
    """

    shifts: tuple[Shift, ...]
    bare: Mapping[str, Array]


@cache
def known() -> Known:
    """What lies beside this module."""
    arrays = read_arrays(files("sosie.scorers").joinpath("accessories.npz").read_bytes(), MAX_BYTES)
    names = [str(name) for name in arrays.pop("names")]
    bare = {key.removeprefix("bare-"): arrays.pop(key).astype(np.float64) for key in list(arrays) if "bare-" in key}
    rows = {sha: rows.astype(np.float64) for sha, rows in arrays.items()}
    return Known(tuple(Shift(name, {sha: rows[sha][at] for sha in rows}) for at, name in enumerate(names)), bare)


def match(cohort: Cohort, templates: Templates) -> tuple[Cohort, tuple[Worn, ...]]:
    """The cohort as if its people wore what the references do, and what that is; the same cohort if it is nothing.

    A judge without shifts cannot be matched: a matched cohort does not know it.
    """
    judges, rows = _known_to(cohort, templates)
    if not rows:
        return cohort, ()
    worn: list[Worn] = []
    while left := [shift for shift in known().shifts if shift.name not in {one.shift.name for one in worn}]:
        found = max(_worn(left, rows, templates), key=lambda one: one.deviations)
        if found.deviations < LIMIT or found.share < LEAST_SHARE:
            break
        worn.append(found)
        rows = {name: _shifted(encoder, rows[name], found) for name, encoder in judges.items()}
    return (_matched(cohort, rows, worn), tuple(worn)) if worn else (cohort, ())


def suspect(cohort: Cohort, templates: Templates) -> Worn | None:
    """What the references may have, where that is not sure enough for `match`; None if they seem bare."""
    _, rows = _known_to(cohort, templates)
    if not rows:
        return None
    found = max(_worn(known().shifts, rows, templates), key=lambda one: one.share)
    return found if found.share >= DOUBT else None


def _known_to(cohort: Cohort, templates: Templates) -> tuple[dict[str, Encoder], dict[str, Array]]:
    """The judges that have shifts and that the cohort knows, and its embeddings by each; none of a single image."""
    judges = {
        name: encoder
        for name, (encoder, _) in templates.items()
        if cohort.n > 1 and cohort.encoders.get(name) == encoder.sha256 and encoder.sha256 in known().bare
    }
    return judges, {name: cohort.embeddings[name].astype(np.float64) for name in judges}


def _worn(shifts: Sequence[Shift], rows: Mapping[str, Array], templates: Templates) -> list[Worn]:
    """How far the templates lie along each shift from the cohort's `rows`, all judges together."""
    own, whole = np.zeros(len(shifts)), np.zeros(len(shifts))
    populations: list[list[Array]] = []
    for judge, values in rows.items():
        encoder, template = templates[judge]
        moved = np.stack([shift.by_judge[encoder.sha256] for shift in shifts])
        bare = known().bare[encoder.sha256]
        probes = _discriminants((values, bare), moved)
        populations.append([values @ probes.T, bare @ probes.T])
        own += probes @ (template - values.mean(axis=0))
        whole += (moved * probes).sum(axis=1)
    spread = np.max([np.sum(one, axis=0).std(axis=0) for one in zip(*populations, strict=True)], axis=0)
    return [
        Worn(shift, float(own[at] / whole[at]), float(own[at] / (spread[at] or 1.0))) for at, shift in enumerate(shifts)
    ]


def _discriminants(populations: tuple[Array, Array], shifts: Array) -> Array:
    """The directions [k, d] that tell `shifts` best from what people of two [n, d] differ in (Fisher 1936)."""
    first, second = (np.cov(rows, rowvar=False) for rows in populations)
    covariance: Array = np.asarray((first + second) / 2, np.float64)
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance) or 1.0
    return np.asarray(np.linalg.solve(covariance + ridge * np.eye(len(covariance)), shifts.T).T, np.float64)


def _shifted(encoder: Encoder, rows: Array, worn: Worn) -> Array:
    moved = rows + worn.share * worn.shift.by_judge[encoder.sha256]
    norms: Array = np.sqrt(np.square(moved).sum(axis=1, keepdims=True))
    return moved / norms if encoder.metric == "cosine" else moved


def _matched(cohort: Cohort, rows: Mapping[str, Array], worn: list[Worn]) -> Cohort:
    told = " and ".join(one.shift.name for one in worn)
    key = f"{cohort.sha256}:{[(one.shift.name, round(one.share, 6)) for one in worn]}"
    return replace(
        cohort,
        name=f"{cohort.name}, matched to {told}",
        encoders={name: cohort.encoders[name] for name in rows},
        embeddings={name: values.astype(np.float32) for name, values in rows.items()},
        sha256=hashlib.sha256(key.encode()).hexdigest(),
    )
