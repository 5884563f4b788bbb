"""The ballot box: who has voted on what, and what they are shown next. Nothing that it says tells a cell."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

from sosie.panels.folder import PanelFolder
from sosie.panels.order import Showing, order_for
from sosie.panels.votes import Choice, Vote, new_person

MOST_PEOPLE = 2_000
MOST_CHANGES = 3
"""Votes that one person may give a pair, in the mean: who changes their mind without end fills the disk."""


class RefusedVoteError(Exception):
    """Why a vote is not taken."""


@dataclass(frozen=True)
class Standing:
    """How far a person has come: of `pairs` pairs, the first `done` have an answer."""

    done: int
    pairs: int


class Ballot:
    """One panel's people and their votes; safe in threads."""

    def __init__(self, folder: PanelFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._orders: dict[str, tuple[Showing, ...]] = {}
        self._given: dict[str, int] = {}
        self._done: dict[str, set[int]] = {}
        for person, votes in folder.votes.last(folder.panel.id).items():
            self._admit(person)
            self._done[person] |= set(votes)

    @property
    def folder(self) -> PanelFolder:
        """The panel that is voted on."""
        return self._folder

    def begin(self) -> str:
        """A new person's number. Raises `RefusedVoteError` where there are too many."""
        with self._lock:
            if len(self._orders) >= MOST_PEOPLE:
                raise RefusedVoteError("this panel has as many people as it can take")
            person = new_person()
            self._admit(person)
            return person

    def standing(self, person: str) -> Standing:
        """How far a person has come. Raises `KeyError` for one that never began."""
        with self._lock:
            return self._standing(person)

    def image(self, person: str, place: int, side: Literal["left", "right"]) -> bytes:
        """The PNG that a person sees there. Raises `KeyError` for a place that they have not come to."""
        with self._lock:
            order = self._orders[person]
            if place not in range(min(self._standing(person).done + 2, len(order))):  # the next one is fetched ahead
                raise KeyError(place)
            shown = order[place]
        panel = self._folder.panel
        return self._folder.image(panel.images[shown.left if side == "left" else shown.right].sha256)

    def vote(self, person: str, place: int, choice: Choice, milliseconds: int) -> Standing:
        """Takes a vote on the next pair, or a new one on an earlier. `KeyError` and `RefusedVoteError` as above."""
        with self._lock:
            order = self._orders[person]
            if place not in range(min(self._standing(person).done + 1, len(order))):
                raise RefusedVoteError("this pair was not shown yet")
            if self._given[person] >= MOST_CHANGES * len(order):
                raise RefusedVoteError("this person has changed their mind too often")
            shown, panel = order[place], self._folder.panel
            self._folder.votes.append(Vote(panel.id, person, shown.pair, shown.left, shown.right, choice, milliseconds))
            self._given[person] += 1
            self._done[person].add(shown.pair)
            return self._standing(person)

    def _admit(self, person: str) -> None:
        self._orders[person] = order_for(self._folder.panel, person)
        self._given[person] = 0
        self._done[person] = set()

    def _standing(self, person: str) -> Standing:
        order, done = self._orders[person], self._done[person]
        first = next((place for place, shown in enumerate(order) if shown.pair not in done), len(order))
        return Standing(first, len(order))
