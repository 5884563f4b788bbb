"""Tests by betting on paired differences: valid at every look, whatever the noise looks like.

Under "the mean is at most m" nobody can expect to win by betting that differences lie above m. Capital that has grown
L-fold is therefore evidence against it: the chance that it ever does is 1 / L at most (Ville), so one may look as often
as one likes. Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B, 2024).

The bets are a mixture of fixed ones. That makes the test also hold for means that differ from prompt to prompt, where
one looks after whole passes through the prompts: the product of (1 + b mu_p) over a pass is at most 1 if the mean of
mu_p is 0 (arithmetic and geometric mean).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SHARES = np.array((0.05, 0.15, 0.3, 0.5, 0.75, 0.98))
"""Of the largest bet that cannot ruin: what the capital is spread over, in equal parts."""

STEPS = 40
"""Halvings of the range in which the end of an interval is looked for: 1e-12 of it."""


@dataclass(frozen=True)
class Bound:
    """What is known of a mean: its estimate, and the interval that holds it with the level that was asked for."""

    mean: float
    low: float
    high: float


def log_capital(differences: Numbers, mean: float, clip: float) -> Numbers:
    """Log of the capital after each of the differences [..., n], of bets against "the mean is at most `mean`".

    Differences are clipped to -clip..clip, and the mean meant is that of the clipped ones; -clip < mean < clip.
    """
    above = (np.clip(differences, -clip, clip) + clip) / (clip + mean) - 1.0
    grown = np.cumsum(np.log1p(SHARES * above[..., None]), axis=-2)
    top = grown.max(axis=-1)
    return top + np.log(np.exp(grown - top[..., None]).mean(axis=-1))


def evidence(differences: Numbers, mean: float, clip: float, looks: NDArray[np.int_]) -> tuple[float, float]:
    """Log of the largest capital at the looks, against "at most `mean`" and against "at least `mean`".

    `looks` are numbers of differences, each 1 to n. Without a look both are 0: nothing was won.
    """
    if not len(looks):
        return 0.0, 0.0
    up = log_capital(differences, mean, clip)[looks - 1].max()
    down = log_capital(-differences, -mean, clip)[looks - 1].max()
    return max(0.0, float(up)), max(0.0, float(down))


def confidence_sequence(differences: Numbers, clip: float, error: float, looks: NDArray[np.int_]) -> Bound:
    """The mean of clipped differences [n], and the interval that held at all looks so far with 1 - `error`.

    The interval is that of the latest look cut by the earlier ones: it never widens. Without a look it is -clip..clip.
    """
    clipped = np.clip(differences, -clip, clip)
    mean = float(clipped.mean()) if len(clipped) else math.nan
    if not len(looks):
        return Bound(mean, -clip, clip)
    wanted = math.log(2.0 / error)
    return Bound(mean, _end(clipped, clip, wanted, looks), -_end(-clipped, clip, wanted, looks))


def _end(differences: Numbers, clip: float, wanted: float, looks: NDArray[np.int_]) -> float:
    """The largest mean that the bets from below refute: their capital falls as the mean rises."""
    low, high = -clip, clip
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle > -clip and log_capital(differences, middle, clip)[looks - 1].max() >= wanted:
            low = middle
        else:
            high = middle
    return low
