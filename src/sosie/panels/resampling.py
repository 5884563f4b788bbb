"""Intervals by the bootstrap over people and blocks: both were drawn from many, and either may be few.

Who votes is drawn again, and which prompts and seeds they saw; images of a block stay together, as they share both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sosie.panels.answers import Answers, Array

DRAWS = 400
FEWEST_PEOPLE = 3
"""Of fewer people nothing is said of others."""


@dataclass(frozen=True)
class Estimate:
    """A figure, and its 95 % interval by people and blocks; None where it cannot be said.

    `n` is the number of votes, or of twos of votes, behind it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


Statistic = Callable[[Array, Array], float]
"""A figure by the weights of people [people] and of pairs [pairs]; NaN where there is none."""


def estimate(answers: Answers, statistic: Statistic, n: int, seed: int = 0) -> Estimate:
    """The figure with every person and block once, and the percentile interval of `DRAWS` draws of both."""
    ones = np.ones(len(answers.people)), np.ones(len(answers.pairs))
    value = statistic(*ones) if n else float("nan")
    if np.isnan(value):
        return Estimate(None, n=n)
    if len(answers.people) < FEWEST_PEOPLE:
        return Estimate(value, n=n)
    drawn = np.array([statistic(people, pairs) for people, pairs in draws(answers, seed)])
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (None, None)
    return Estimate(value, None if low is None else float(low), None if high is None else float(high), n)


def draws(answers: Answers, seed: int, count: int = DRAWS) -> list[tuple[Array, Array]]:
    """Weights of people and of pairs: how often each was drawn."""
    generator = np.random.default_rng(seed)
    people = generator.multinomial(len(answers.people), np.full(len(answers.people), 1 / len(answers.people)), count)
    names, block = _numbered(answers.blocks)
    blocks = generator.multinomial(names, np.full(names, 1 / names), count)
    return [
        (row.astype(np.float64), drawn[block].astype(np.float64)) for row, drawn in zip(people, blocks, strict=True)
    ]


def _numbered(blocks: Sequence[str]) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    names = {name: number for number, name in enumerate(dict.fromkeys(blocks))}
    return len(names), np.array([names[name] for name in blocks], np.int64)
