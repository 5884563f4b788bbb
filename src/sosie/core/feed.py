"""What an engine is to draw: plans that may come one after another, while it draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sosie.core.plan import Plan

LONG = 1.0
"""Seconds that iterating waits at a time, so that an interrupt is noticed wherever a wait cannot be broken off."""


class Feed(ABC):
    """Plans for an engine, each given once. Which one comes next may depend on what became of earlier ones.

    An engine that draws one image at a time iterates: that waits for the next plan, and ends when there will be none
    (or none before it draws what it was given; it is run again then).
    One that draws several at once calls `take` whenever it has room, and yields renders as they are finished: what
    they lead to can be taken then. All from the thread that reads the engine's events.
    """

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether no plan will come any more."""

    @abstractmethod
    def take(self, wait: float = 0.0) -> Plan | None:
        """The next plan, or None if none came within `wait` seconds.

        A wait says that something stands idle: then the plan may be one that turns out not to be needed.
        """

    def __iter__(self) -> Iterator[Plan]:
        """Every plan in turn."""
        while not self.ended:
            if (plan := self.take(LONG)) is not None:
                yield plan


class Listed(Feed):
    """Plans that are all known from the beginning."""

    def __init__(self, plans: Iterable[Plan]) -> None:
        self._left = list(reversed(list(plans)))

    @property
    def ended(self) -> bool:
        """Whether all were given."""
        return not self._left

    def take(self, wait: float = 0.0) -> Plan | None:  # noqa: ARG002
        """The next one, at once."""
        return self._left.pop() if self._left else None


def feed_of(plans: Iterable[Plan]) -> Feed:
    """The plans as a feed: themselves, if they are one."""
    return plans if isinstance(plans, Feed) else Listed(plans)
