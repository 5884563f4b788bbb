"""Defects: what makes an image unusable whoever is in it.

Each module of this package has `CHECKS`, the scales it measures, and `scores(sample)`, one Score a
check in that order. How well each check works is measured in `docs/defects.md`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import cast

from sosie.core.errors import ConfigError, nearest
from sosie.core.score import Score
from sosie.scorers.defects.check import Check
from sosie.scorers.sample import Sample

_MODULES = {
    "tone": ("blank", "flat"),
    "noise": ("noise",),
    "patterns": ("lines", "waves"),
    "codes": ("qr",),
    "framing": ("no_face", "several_faces", "cut_off_face"),
    "text": ("text",),
}
"""Module by module, the checks it makes; the slowest is last."""

DEFECTS: tuple[str, ...] = tuple(name for names in _MODULES.values() for name in names)
"""The names of all checks, in the order in which they are made."""


def score_defects(sample: Sample, names: Sequence[str] = ()) -> list[Score]:
    """One Score for each check of `names` (all, when empty), in the order of `DEFECTS`.

    A check that cannot run (a library is missing, the image is too small) gives value None and the
    reason. Raises `ConfigError` for a name that is no check.
    """
    for name in names:
        if name not in DEFECTS:
            raise ConfigError(f"'{name}' is not a defect check{nearest(name, DEFECTS)}")
    wanted = set(names or DEFECTS)
    found = [score for module, made in _MODULES.items() if wanted & set(made) for score in _run(module, sample)]
    return [score for score in found if score.name in wanted]


def _run(module: str, sample: Sample) -> list[Score]:
    part = importlib.import_module(f"{__name__}.{module}")
    scores = cast("Callable[[Sample], list[Score]]", part.scores)
    try:
        return scores(sample)
    except ImportError as error:
        checks = cast("tuple[Check, ...]", part.CHECKS)
        return [check.unmeasured(f"{error.name or error} is not installed") for check in checks]
