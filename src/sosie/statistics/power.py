"""What a plan can show: simulated before anything is drawn, with the tests that will be used."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sosie.statistics.betting import Numbers, log_capital
from sosie.statistics.student import t_quantile

Stopping = Literal["anytime", "none"]

POWER = 0.8
"""The share of experiments that show a difference of that size."""

WORLDS, LONGEST = 300, 128
"""Simulated experiments, and their blocks; a longer plan shows less in proportion to the root of its length."""


@dataclass(frozen=True)
class Trial:
    """`n` blocks an arm, `contrasts` questions that share the error `alpha`, and a look every `every` blocks.

    Paired differences have the standard deviation `sd` and are clipped at `clip`.
    """

    n: int
    contrasts: int = 1
    sd: float = 0.064
    clip: float = 0.15
    alpha: float = 0.05
    every: int = 4
    stopping: Stopping = "anytime"

    @property
    def looks(self) -> NDArray[np.int_]:
        """After how many blocks is looked: every `every`, and at the end."""
        return looks(self.n, self.every)


def looks(n: int, every: int) -> NDArray[np.int_]:
    """After how many of `n` blocks is looked: after every `every`, and at the end."""
    found = list(range(every, n + 1, every))
    if n and (not found or found[-1] != n):
        found.append(n)
    return np.array(found, np.int_)


def first_claims(trial: Trial, differences: Numbers) -> Numbers:
    """In which block a difference (of either sign) is claimed in each world of differences [worlds, n]; inf: never."""
    at = trial.looks
    if not len(at):
        return np.full(len(differences), math.inf)
    if trial.stopping == "none":
        return _at_the_end(trial, differences)
    wanted = math.log(2 * trial.contrasts / trial.alpha)
    sides = [log_capital(side, 0.0, trial.clip)[:, at - 1] for side in (differences, -differences)]
    claimed = np.maximum(*sides) >= wanted
    return np.where(claimed.any(axis=1), at[claimed.argmax(axis=1)], math.inf)


def smallest_difference(trial: Trial, seed: int = 0) -> float | None:
    """The smallest true difference that 80 % of such experiments show; None if none below the clip is.

    Simulated with normal noise, to about 5 % of its size. 0 blocks show nothing.
    """
    if trial.n < 1:
        return None
    if trial.n > LONGEST:
        shorter = smallest_difference(replace(trial, n=LONGEST), seed)
        return None if shorter is None else shorter * math.sqrt(LONGEST / trial.n)
    noise = np.random.default_rng(seed).normal(0.0, trial.sd, (WORLDS, trial.n))

    def shown(effect: float) -> bool:
        return float(np.isfinite(first_claims(trial, noise + effect)).mean()) >= POWER

    low, high = 0.0, trial.clip * 0.98
    if not shown(high):
        return None
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def _at_the_end(trial: Trial, differences: Numbers) -> Numbers:
    """Paired t at the end, each question at its share of alpha: Holm claims that and more."""
    if trial.n < 2:
        return np.full(len(differences), math.inf)
    t = differences.mean(axis=1) / differences.std(axis=1, ddof=1) * math.sqrt(trial.n)
    wanted = t_quantile(trial.alpha / (2 * trial.contrasts), trial.n - 1)
    return np.where(np.abs(t) >= wanted, float(trial.n), math.inf)
