"""Student's t for paired differences, and Holm's way to test several questions at once: one look, at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sosie.statistics.betting import Bound, Numbers


def t_tail(t: float, freedom: float) -> float:
    """The chance that Student's t with so many degrees of freedom lies above `t`."""
    half = 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)
    return half if t >= 0 else 1.0 - half


def t_quantile(tail: float, freedom: float) -> float:
    """The t above which a share `tail` (0 to 0.5) lies."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > tail:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > tail else (low, middle)
    return high


def paired_p(differences: Numbers, mean: float = 0.0) -> float:
    """The two-sided p of "the mean of the n differences is `mean`"; 1 for fewer than two of them."""
    n = len(differences)
    spread = float(np.std(differences, ddof=1)) if n > 1 else 0.0
    away = abs(float(np.mean(differences)) - mean) if n else 0.0
    if n < 2 or (spread == 0.0 and away == 0.0):
        return 1.0
    return 2 * t_tail(away / spread * math.sqrt(n), n - 1) if spread > 0 else 0.0


def paired_interval(differences: Numbers, error: float) -> Bound:
    """The mean of n differences and its interval at 1 - `error`; infinite for fewer than two of them."""
    n = len(differences)
    mean = float(np.mean(differences)) if n else math.nan
    if n < 2:
        return Bound(mean, -math.inf, math.inf)
    half = t_quantile(error / 2, n - 1) * float(np.std(differences, ddof=1)) / math.sqrt(n)
    return Bound(mean, mean - half, mean + half)


def welch(first: Numbers, second: Numbers, error: float) -> tuple[Bound, float]:
    """How far the mean of the first lies above that of the second, its interval, and the two-sided p (Welch 1947).

    Both have two values at least.
    """
    parts = [float(np.var(one, ddof=1)) / len(one) for one in (first, second)]
    mean = float(first.mean() - second.mean())
    spread = math.sqrt(sum(parts))
    if spread == 0.0:
        return Bound(mean, mean, mean), 1.0 if mean == 0.0 else 0.0
    below = sum(part**2 / (len(one) - 1) for part, one in zip(parts, (first, second), strict=True))
    freedom = sum(parts) ** 2 / below
    half = t_quantile(error / 2, freedom) * spread
    return Bound(mean, mean - half, mean + half), 2 * t_tail(abs(mean) / spread, freedom)


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """The p values of several questions, adjusted so that each may be held against the error of all (Holm 1979)."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), 0 <= x <= 1 (Lentz's continued fraction, DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1), tiny)
    whole = d
    for m in range(1, 500):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _away(1.0 + step * d, tiny)
            c = _away(1.0 + step / c, tiny)
            whole *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return front * whole / a


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
