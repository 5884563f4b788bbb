"""What an engine is given to draw: a list that is known, or plans that come while it draws."""

from __future__ import annotations

from collections import deque

from sosie.core import Character, Draw, Plan, Recipe, Request, Stage, plan
from sosie.core.feed import Feed, feed_of

RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)


def planned(index: int) -> Plan:
    return plan(RECIPE, Character("mira", "fictional", True), Request("r", "mira", "x"), Draw(index), {"m": "0" * 64})


class Slow(Feed):
    """Has its next plan at every second look."""

    def __init__(self, plans: list[Plan]) -> None:
        self.left = deque(plans)
        self.looks = 0

    @property
    def ended(self) -> bool:
        return not self.left

    def take(self, wait: float = 0.0) -> Plan | None:
        self.looks += 1
        return self.left.popleft() if self.looks % 2 == 0 else None


def test_a_list_is_given_in_its_order_and_then_ends() -> None:
    plans = [planned(index) for index in range(3)]
    feed = feed_of(plans)
    assert not feed.ended
    assert feed.take() is plans[0]
    assert list(feed) == plans[1:]
    assert feed.ended
    assert feed.take(wait=9.0) is None


def test_whoever_iterates_waits_for_what_has_not_come_yet() -> None:
    plans = [planned(index) for index in range(3)]
    feed = Slow(plans)
    assert feed_of(feed) is feed
    assert list(feed) == plans
    assert feed.looks == 6
