"""Thresholds by people: fitted on half of the blocks, and held against the votes on the other half.

No image is in both halves, for the images of a block stay together.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sosie.core.schema import digest
from sosie.panels.agreement import Measured, differences, ends
from sosie.panels.answers import Answers, Array
from sosie.scorers.statistics import Proportion, wilson

FEWEST_VOTES = 20
"""So few votes about a threshold fit none, and prove none."""

SEEN = 0.75
"""A difference is seen where three of four choices go its way, as is usual in psychophysics."""


@dataclass(frozen=True)
class Fitted:
    """A threshold of a score, or the smallest difference of it that people see.

    `fitted` is the share of votes that agree on the half that it was fitted on (and flatters), `held` that on the other
    half: what may be said. Votes are taken as independent there, which makes the interval too narrow where one person
    gave many. `value` is None where there are too few votes, or where nothing fits, and `why_not`.
    """

    name: str
    value: float | None
    fitted: Proportion | None = None
    held: Proportion | None = None
    why_not: str = ""


def fit_threshold(answers: Answers, measured: Measured) -> Fitted:
    """The value that best parts images: of two that it parts, people chose the better one most often.

    That is the value with the most such choices less the others.
    """
    fit, held = halves(answers)
    one, other = ends(answers, measured)
    for_a, decided = _votes(answers)
    best: tuple[float, float] | None = None
    for value in _between(np.concatenate([one[fit], other[fit]])):
        k, n = _parted(value, one, other, for_a, decided, fit)
        if n >= FEWEST_VOTES and (best is None or 2 * k - n > best[1]):
            best = value, 2 * k - n
    if best is None:
        return Fitted(measured.name, None, why_not=f"fewer than {FEWEST_VOTES} votes lie about any value")
    value = best[0]
    return _reported(
        Fitted(measured.name, float(value if measured.higher_is_better else -value)),
        wilson(*_parted(value, one, other, for_a, decided, fit)),
        wilson(*_parted(value, one, other, for_a, decided, held)),
    )


def fit_difference(answers: Answers, measured: Measured) -> Fitted:
    """The smallest difference of the score from which on `SEEN` of the choices go its way."""
    fit, held = halves(answers)
    difference = differences(answers, measured)
    for_a, decided = _votes(answers)
    sizes = np.abs(difference)
    for value in np.unique(sizes[fit & (sizes > 0)]):
        k, n = _beyond(float(value), difference, for_a, decided, fit)
        if n >= FEWEST_VOTES and k / n >= SEEN:
            beyond = _beyond(float(value), difference, for_a, decided, held)
            return _reported(Fitted(measured.name, float(value)), wilson(k, n), wilson(*beyond))
    return Fitted(measured.name, None, why_not=f"no difference is followed by {SEEN:.0%} of {FEWEST_VOTES} votes")


def halves(answers: Answers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs are fitted on and which are not [pairs]; blocks are parted by digest, as many each."""
    names = dict.fromkeys(answers.blocks)
    order = sorted(names, key=lambda name: hashlib.sha256(digest([answers.panel.id, name]).encode()).digest())
    chosen = set(order[::2])
    fit = np.array([name in chosen for name in answers.blocks], np.bool_)
    return fit, ~fit


def _reported(found: Fitted, fitted: Proportion, held: Proportion) -> Fitted:
    if held.n < FEWEST_VOTES:
        return replace(found, fitted=fitted, why_not=f"only {held.n} votes of the other half lie about it: not proven")
    return replace(found, fitted=fitted, held=held)


def _votes(answers: Answers) -> tuple[Array, Array]:
    """Choices of a, and all choices, of each pair [pairs]."""
    decided = answers.decided
    return np.where(decided, answers.table, 0.0).sum(axis=0), decided.sum(axis=0).astype(np.float64)


def _between(values: Array) -> Array:
    known = np.unique(values[~np.isnan(values)])
    return (known[1:] + known[:-1]) / 2


def _parted(
    value: float, one: Array, other: Array, for_a: Array, decided: Array, where: NDArray[np.bool_]
) -> tuple[int, int]:
    """Votes for the passing image, and all votes, on pairs of which one passes."""
    up = where & (one >= value) & (other < value)
    down = where & (one < value) & (other >= value)
    agree = for_a[up].sum() + (decided - for_a)[down].sum()
    return int(agree), int(decided[up | down].sum())


def _beyond(value: float, difference: Array, for_a: Array, decided: Array, where: NDArray[np.bool_]) -> tuple[int, int]:
    """Votes for the better image, and all votes, on pairs that differ by that much."""
    up, down = where & (difference >= value), where & (difference <= -value)
    agree = for_a[up].sum() + (decided - for_a)[down].sum()
    return int(agree), int(decided[up | down].sum())
