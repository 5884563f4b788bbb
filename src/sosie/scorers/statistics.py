"""Statistics of a set of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Proportion:
    """`k` of `n`, with its 95 % Wilson score interval (Wilson 1927), all 0 to 1."""

    k: int
    n: int
    rate: float
    low: float
    high: float


def wilson(k: int, n: int, z: float = 1.959964) -> Proportion:
    """The share k of n and its Wilson interval; for n = 0 the interval is 0 to 1."""
    if n == 0:
        return Proportion(0, 0, 0.0, 0.0, 1.0)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Proportion(k, n, p, max(0.0, centre - half), min(1.0, centre + half))


def auc(positive: Sequence[float] | NDArray[np.float64], negative: Sequence[float] | NDArray[np.float64]) -> float:
    """ROC-AUC: the probability that a positive scores above a negative, ties counted half."""
    p, n = np.sort(np.asarray(positive, np.float64)), np.sort(np.asarray(negative, np.float64))
    below = np.searchsorted(n, p, "left").sum()
    equal = np.searchsorted(n, p, "right").sum() - below
    return float((below + equal / 2) / (len(p) * len(n)))
