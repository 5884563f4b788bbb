"""Bradley-Terry: how much the cells are preferred, from who was chosen over whom (choix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sosie.core.errors import MissingExtraError
from sosie.panels.answers import Answers, Array
from sosie.panels.resampling import FEWEST_PEOPLE, Estimate, draws

PRIOR = 0.5
"""Wins that each cell is given over each other before anybody votes: a cell that always wins is not infinitely good."""

STRENGTH_DRAWS = 200


@dataclass(frozen=True)
class Strength:
    """A cell: its log strength (the mean of all cells is 0), its chance against an average cell, votes and wins.

    "Cannot tell" is half a win for both.
    """

    cell: str
    log: Estimate
    chance: Estimate
    wins: float
    votes: int


def strengths(answers: Answers, seed: int = 0, count: int = STRENGTH_DRAWS) -> tuple[Strength, ...]:
    """The cells, the strongest first; intervals by `count` draws. Raises `MissingExtraError` without choix."""
    cells = answers.panel.cells
    if not len(answers.people):
        return ()
    wins = win_table(answers, np.ones(len(answers.people)), np.ones(len(answers.pairs)))
    value = fit(wins)
    spread: Array | None = None
    if len(answers.people) >= FEWEST_PEOPLE:
        drawn = draws(answers, seed, count)
        spread = np.array([fit(win_table(answers, *weights), value) for weights in drawn])
    found: list[Strength] = []
    for place, cell in enumerate(cells):
        votes = int(wins[place].sum() + wins[:, place].sum())
        ends = None if spread is None else np.quantile(spread[:, place], (0.025, 0.975))
        log = _estimate(float(value[place]), ends, votes)
        chance = _estimate(_chance(float(value[place])), None if ends is None else _chances(ends), votes)
        found.append(Strength(cell, log, chance, float(wins[place].sum()), votes))
    return tuple(sorted(found, key=lambda one: -(one.log.value or 0.0)))


def win_table(answers: Answers, people: Array, pairs: Array) -> Array:
    """How often each cell [row] was chosen over each other [column], with these weights."""
    places = {cell: place for place, cell in enumerate(answers.panel.cells)}
    ends = [answers.panel.pairs[place] for place in answers.pairs]
    a = [places[answers.panel.cell_of(pair.a)] for pair in ends]
    b = [places[answers.panel.cell_of(pair.b)] for pair in ends]
    given = ~np.isnan(answers.table)
    chosen = people @ np.where(given, answers.table, 0.0) * pairs
    asked = people @ given.astype(np.float64) * pairs
    table = np.zeros((len(places), len(places)))
    np.add.at(table, (a, b), chosen)
    np.add.at(table, (b, a), asked - chosen)
    return table


def fit(wins: Array, start: Array | None = None) -> Array:
    """The log strengths [cells] that make these wins likeliest, with `PRIOR` wins more; their mean is 0.

    It is the same from any `start`, and sooner found from a near one.
    """
    try:
        import choix
    except ImportError:
        raise MissingExtraError(
            "the votes cannot be counted: choix is not installed", "pip install 'sosie[panel]'"
        ) from None
    more = PRIOR * (1 - np.eye(len(wins)))
    found = choix.ilsr_pairwise_dense(wins + more, initial_params=start, max_iter=1000, tol=1e-6)
    return np.asarray(found - found.mean(), np.float64)


def _estimate(value: float, ends: Array | None, n: int) -> Estimate:
    return Estimate(value, n=n) if ends is None else Estimate(value, float(ends[0]), float(ends[1]), n)


def _chance(log: float) -> float:
    return float(1 / (1 + np.exp(-log)))


def _chances(logs: Sequence[float] | Array) -> Array:
    return np.array([_chance(float(one)) for one in logs])
