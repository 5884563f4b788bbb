"""How often people agree with each other, and how often a score says what they choose.

No score can be asked to agree with a person more than another person does; so both stand side by side, over the same
votes. "Cannot tell" is no choice: such votes are counted by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sosie.panels.answers import Answers, Array
from sosie.panels.resampling import Estimate, estimate
from sosie.scorers.statistics import auc


@dataclass(frozen=True)
class Measured:
    """What a judge or a look says of each image; None where it says nothing.

    A score that `is_directed` says which image is better; of others, such as saturation, neither end is.
    """

    name: str
    kind: str
    higher_is_better: bool
    values: tuple[float | None, ...]
    why_not: str = ""
    is_directed: bool = True

    @property
    def oriented(self) -> Array:
        """The values with better ones higher [images], NaN for None."""
        sign = 1.0 if self.higher_is_better else -1.0
        return np.array([np.nan if value is None else sign * value for value in self.values], np.float64)


@dataclass(frozen=True)
class Agreement:
    """A score beside people. `share` of the votes chose the image that it prefers; one that prefers none counts half.

    `auc`: how well the size of its difference tells which was chosen, 0.5 is chance. `covered`: the share of the
    votes whose two images both have a score.
    """

    name: str
    kind: str
    share: Estimate
    auc: float | None
    covered: float
    why_not: str = ""


def people_agree(answers: Answers) -> Estimate:
    """The share of two people's choices on one pair that are the same; `n` is the number of such twos."""
    for_a, decided = _choices(answers)
    for_b = decided - for_a
    count = decided.sum(axis=0)

    def share(people: Array, pairs: Array) -> float:
        both = sum(_twos(people, votes) for votes in (for_a, for_b))
        return _ratio(float(np.sum(both * pairs)), float(np.sum(_twos(people, decided) * pairs)))

    return estimate(answers, share, int((count * (count - 1) / 2).sum()))


def most_agree(answers: Answers) -> Estimate:
    """The share of choices that are those of most of the others: the most that any score could reach, nearly.

    Where the others are divided, half.
    """
    for_a, decided = _choices(answers)

    def share(people: Array, pairs: Array) -> float:
        weight = people[:, None]
        # A person who was drawn twice is not among their own others.
        a = people @ for_a - weight * for_a
        b = people @ (decided - for_a) - weight * (decided - for_a)
        agrees = np.where(a == b, 0.5, np.where(a > b, for_a, decided - for_a))
        counted = decided * weight * pairs * ((a + b) > 0)
        return _ratio(float((agrees * counted).sum()), float(counted.sum()))

    others = decided.sum(axis=0) - 1
    return estimate(answers, share, int((decided * (others > 0)).sum()))


def agreement(answers: Answers, measured: Measured) -> Agreement:
    """How a judge or a look agrees with people."""
    for_a, decided = _choices(answers)
    difference = differences(answers, measured)
    known = ~np.isnan(difference)
    votes = decided * known
    right = np.where(difference > 0, for_a, np.where(difference < 0, 1.0 - for_a, 0.5))

    def share(people: Array, pairs: Array) -> float:
        counted = votes * people[:, None] * pairs
        return _ratio(float((right * counted).sum()), float(counted.sum()))

    found = estimate(answers, share, int(votes.sum()))
    covered = _ratio(float(votes.sum()), float(decided.sum()))
    signed = (np.where(for_a == 1.0, 1.0, -1.0) * np.where(known, difference, 0.0))[votes > 0]
    area = auc(signed, -signed) if len(signed) else None
    return Agreement(measured.name, measured.kind, found, area, 0.0 if np.isnan(covered) else covered, measured.why_not)


def differences(answers: Answers, measured: Measured) -> Array:
    """By how much image a is better than b, for each pair [pairs]; NaN where one has no score."""
    values = measured.oriented
    pairs = [answers.panel.pairs[place] for place in answers.pairs]
    a, b = ([getattr(pair, end) for pair in pairs] for end in ("a", "b"))
    return values[a] - values[b] if pairs else np.zeros(0)


def ends(answers: Answers, measured: Measured) -> tuple[Array, Array]:
    """The scores, better ones higher, of the images a and b of each pair [pairs]."""
    values = measured.oriented
    pairs: Sequence[tuple[int, int]] = [
        (answers.panel.pairs[place].a, answers.panel.pairs[place].b) for place in answers.pairs
    ]
    return values[[a for a, _ in pairs]], values[[b for _, b in pairs]]


def _choices(answers: Answers) -> tuple[Array, Array]:
    """Where a was chosen, and where one of the two was, as numbers [people, pairs]."""
    decided = answers.decided
    return np.where(decided, answers.table, 0.0), decided.astype(np.float64)


def _twos(people: Array, votes: Array) -> Array:
    """How many twos of different people have both of these votes, by pair [pairs]."""
    return ((people @ votes) ** 2 - (people**2) @ votes) / 2


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
