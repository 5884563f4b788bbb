"""In which order, and on which sides, one person sees the pairs: another for everybody, the same after a break.

It is made of digests alone, so that no version of a random generator can change it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sosie.panels.panel import Panel

APART = 4
"""So many pairs at least lie between a pair and its repeat, where there are as many."""


@dataclass(frozen=True)
class Showing:
    """A pair by its place in the panel, and which images stand left and right."""

    pair: int
    left: int
    right: int


def order_for(panel: Panel, person: str) -> tuple[Showing, ...]:
    """All pairs of the panel as a person sees them."""
    first = [place for place, pair in enumerate(panel.pairs) if pair.kind != "repeat"]
    order = sorted(first, key=lambda place: _number(panel, person, "order", place))
    for place, pair in enumerate(panel.pairs):
        if pair.kind != "repeat" or pair.of is None:
            continue
        earliest = min(order.index(pair.of) + 1 + APART, len(order))
        span = len(order) - earliest + 1
        order.insert(earliest + _number(panel, person, "repeat", place) % span, place)
    return tuple(_showing(panel, person, place) for place in order)


def _showing(panel: Panel, person: str, place: int) -> Showing:
    pair = panel.pairs[place]
    sides = (pair.a, pair.b) if _number(panel, person, "side", place) % 2 else (pair.b, pair.a)
    return Showing(place, *sides)


def _number(panel: Panel, person: str, purpose: str, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{panel.id}\n{person}\n{purpose}\n{place}".encode()).digest()[:8], "big")
