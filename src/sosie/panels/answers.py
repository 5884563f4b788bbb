"""What people answered, as a table; and whose answers count, by the checks that the panel declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sosie.panels.panel import Attention, Kind, Panel
from sosie.panels.votes import Vote

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Attended:
    """How a person met the attention checks; `why` their votes do not count, empty if they do.

    `identical` and `repeats` are (failed, answered).
    """

    person: str
    answered: int
    identical: tuple[int, int]
    repeats: tuple[int, int]
    why: str = ""


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers to the test pairs: `table` [people, pairs] is 1 for image a, 0 for b, 0.5 cannot tell, NaN not asked.

    `pairs` are places in the panel.
    """

    panel: Panel
    people: tuple[str, ...]
    pairs: tuple[int, ...]
    table: Array

    @property
    def decided(self) -> NDArray[np.bool_]:
        """Where somebody chose one of the two [people, pairs]."""
        return (self.table == 0.0) | (self.table == 1.0)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The block of each pair."""
        return tuple(self.panel.images[self.panel.pairs[place].a].block for place in self.pairs)

    @property
    def undecided(self) -> float | None:
        """The share of answers that were "cannot tell"."""
        given = ~np.isnan(self.table)
        return float((self.table == 0.5).sum() / given.sum()) if given.any() else None


def attended(panel: Panel, person: str, votes: Mapping[int, Vote]) -> Attended:
    """How a person met the checks of the panel."""
    identical, repeats = [0, 0], [0, 0]
    for place, vote in votes.items():
        pair = panel.pairs[place]
        if pair.kind == "identical":
            identical[1] += 1
            identical[0] += vote.choice != "neither"
        elif pair.of is not None and pair.of in votes:
            repeats[1] += 1
            repeats[0] += vote.chosen != votes[pair.of].chosen
    why = _why_not(panel.attention, identical, repeats)
    return Attended(person, len(votes), (identical[0], identical[1]), (repeats[0], repeats[1]), why)


def answers(panel: Panel, votes: Mapping[str, Mapping[int, Vote]], people: Sequence[str]) -> Answers:
    """The answers of these people to the test pairs; who answered none is left out."""
    pairs = places_of(panel, "test")
    column = {place: index for index, place in enumerate(pairs)}
    table = np.full((len(people), len(pairs)), np.nan)
    for row, person in enumerate(people):
        for place, vote in votes[person].items():
            if place in column:
                chosen = vote.chosen
                table[row, column[place]] = 0.5 if chosen is None else float(chosen == panel.pairs[place].a)
    voted = [row for row in range(len(people)) if not np.isnan(table[row]).all()]
    return Answers(panel, tuple(people[row] for row in voted), pairs, table[voted])


def places_of(panel: Panel, kind: Kind) -> tuple[int, ...]:
    """The places of the pairs of one kind."""
    return tuple(place for place, pair in enumerate(panel.pairs) if pair.kind == kind)


def sound(panel: Panel, votes: Mapping[str, Mapping[int, Vote]]) -> dict[str, dict[int, Vote]]:
    """The votes on pairs that the panel has, with the two images that it shows there."""
    found: dict[str, dict[int, Vote]] = {}
    for person, own in votes.items():
        for place, vote in own.items():
            pair = panel.pairs[place] if place in range(len(panel.pairs)) else None
            if pair is not None and {vote.left, vote.right} == {pair.a, pair.b}:
                found.setdefault(person, {})[place] = vote
    return found


def _why_not(rules: Attention, identical: Sequence[int], repeats: Sequence[int]) -> str:
    failed, asked = identical
    if asked >= rules.least and failed > rules.identical * asked:
        return f"chose a side in {failed} of {asked} pairs of one image twice"
    changed, asked = repeats
    if asked >= rules.least and asked - changed < rules.repeats * asked:
        return f"answered {changed} of {asked} repeated pairs otherwise than before"
    return ""


Side = Literal["left", "right"]


def side_taken(votes: Mapping[str, Mapping[int, Vote]]) -> tuple[int, int]:
    """How often the left image was chosen, of all choices: sides are random, so half of them is expected."""
    chosen = [vote.choice for own in votes.values() for vote in own.values() if vote.choice != "neither"]
    return chosen.count("left"), len(chosen)
