"""Defects: what makes an image unusable whoever is in it.

How well each check works is measured in `docs/defects.md`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sosie.core.errors import ConfigError, nearest
from sosie.core.score import Score
from sosie.scorers.defects import codes, framing, noise, patterns, text, tone
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Scorer, measure

SCORERS: tuple[Scorer, ...] = tuple(part.SCORER for part in (tone, noise, patterns, codes, framing, text))
"""In the order in which they measure; the slowest is last."""

DEFECTS: tuple[str, ...] = tuple(scale.name for scorer in SCORERS for scale in scorer.scales)
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
    scorers = [scorer for scorer in SCORERS if wanted & {scale.name for scale in scorer.scales}]
    return [score for scorer in scorers for score in measure(scorer, sample) if score.name in wanted]
