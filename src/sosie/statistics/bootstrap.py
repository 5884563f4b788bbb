"""Intervals for the mean of one cell: its images are drawn again, by prompt and then by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sosie.statistics.betting import Numbers

DRAWS = 2000
ENOUGH_PROMPTS = 8
"""So many prompts at least are drawn again themselves; fewer say nothing of other prompts."""


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval, and what was drawn again for it."""

    value: float
    low: float
    high: float
    n: int
    by: Literal["prompt and seed", "seed"]


def bootstrap_mean(values: Numbers, seed: int = 0) -> Mean | None:
    """The mean of values [prompts, seeds] (NaN where an image was not drawn); None if there is none.

    Every prompt counts alike. The percentile interval of 2,000 draws: of prompts and of seeds within them, or of seeds
    alone where there are fewer than 8 prompts.
    """
    rows = [row[~np.isnan(row)] for row in values]
    rows = [row for row in rows if len(row)]
    if not rows:
        return None
    generator = np.random.default_rng(seed)
    means = np.stack([row[generator.integers(len(row), size=(DRAWS, len(row)))].mean(axis=1) for row in rows])
    many = len(rows) >= ENOUGH_PROMPTS
    if many:
        chosen = generator.integers(len(rows), size=(DRAWS, len(rows)))
        drawn = means[chosen, np.arange(DRAWS)[:, None]].mean(axis=1)
    else:
        drawn = means.mean(axis=0)
    low, high = np.quantile(drawn, (0.025, 0.975))
    value = float(np.mean([row.mean() for row in rows]))
    count = sum(map(len, rows))
    return Mean(value, float(low), float(high), count, "prompt and seed" if many else "seed")
