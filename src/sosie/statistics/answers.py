"""The answer to each question of an experiment: better, worse, no difference beyond the margin, or undecided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sosie.statistics.betting import Bound, Numbers, confidence_sequence, evidence
from sosie.statistics.power import Stopping
from sosie.statistics.student import holm, paired_interval, paired_p

Verdict = Literal["better", "worse", "same", "undecided"]
"""`same`: no difference beyond the margin."""

BEHIND = 0.05
"""At most this share of arms that are not worse is dropped by a race: a chance that is lost, and no claim."""


@dataclass(frozen=True)
class Rules:
    """What was declared: differences up to `margin` do not matter; `contrasts` questions share the error `alpha`.

    With `anytime` differences are clipped at `clip` and every look counts; with `none` there is one, at the end.
    """

    margin: float
    clip: float
    alpha: float = 0.05
    stopping: Stopping = "anytime"
    contrasts: int = 1


@dataclass(frozen=True)
class Answer:
    """A verdict, the interval of the mean difference at 1 - alpha / contrasts, and a p that holds for all contrasts.

    `clipped` is the share of differences beyond the clip (0 where nothing is clipped).
    """

    verdict: Verdict
    bound: Bound
    p: float
    clipped: float = 0.0


def answer(differences: Numbers, rules: Rules, looks: NDArray[np.int_]) -> Answer:
    """The answer after looks at so many of the paired differences [n], each of which may have been the last."""
    error = rules.alpha / rules.contrasts
    bound = confidence_sequence(differences, rules.clip, error, looks)
    won = max(evidence(differences, 0.0, rules.clip, looks))
    p = min(1.0, 2 * rules.contrasts * math.exp(-won))
    clipped = float(np.mean(np.abs(differences) > rules.clip)) if len(differences) else 0.0
    return Answer(_verdict(bound, rules.margin, bound.low > 0, bound.high < 0), bound, p, clipped)


def answers_at_the_end(differences: Sequence[Numbers], rules: Rules) -> list[Answer]:
    """The answers to all questions by paired t tests with Holm's adjustment; none was looked at before.

    Intervals hold together (Bonferroni); Holm may claim a difference whose interval touches 0.
    """
    ps = holm([paired_p(one) for one in differences])
    found: list[Answer] = []
    for one, p in zip(differences, ps, strict=True):
        bound = paired_interval(one, rules.alpha / rules.contrasts)
        shown = p <= rules.alpha
        found.append(
            Answer(_verdict(bound, rules.margin, shown and bound.mean > 0, shown and bound.mean < 0), bound, p)
        )
    return found


def is_behind(differences: Numbers, rules: Rules, looks: NDArray[np.int_]) -> bool:
    """Whether a race drops an arm with these differences to the incumbent."""
    return evidence(differences, 0.0, rules.clip, looks)[1] >= math.log(1 / BEHIND)


def _verdict(bound: Bound, margin: float, better: bool, worse: bool) -> Verdict:
    if -margin <= bound.low and bound.high <= margin:
        return "same"
    return "better" if better else "worse" if worse else "undecided"
