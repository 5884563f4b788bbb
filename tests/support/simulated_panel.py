"""A panel of people who are simulated: what is true is known, so what the analysis says of it can be held against it.

A person who attends chooses the better of two images by Bradley and Terry's law: with chance 1 / (1 + exp(-d)), d being
how much better it is; of two that are alike they cannot tell. A careless one answers at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sosie.panels.agreement import Measured
from sosie.panels.drawing import draw_pairs
from sosie.panels.order import order_for
from sosie.panels.panel import Panel, PanelImage
from sosie.panels.votes import Choice, Vote


@dataclass(frozen=True, eq=False)
class World:
    """A panel, and how good each of its images is [images]."""

    panel: Panel
    truth: NDArray[np.float64]


def world(cells: Mapping[str, float], blocks: int, seed: int, spread: float = 0.0, pairs: int = 200) -> World:
    """Images of cells of these log strengths; those of a cell differ by `spread`."""
    generator = np.random.default_rng(seed)
    images: list[PanelImage] = []
    truth: list[float] = []
    for block in range(blocks):
        for cell, strength in cells.items():
            images.append(PanelImage(f"{len(images):064x}", cell, f"block {block}"))
            truth.append(strength + spread * generator.normal())
    drawn = draw_pairs(images, tuple(cells), pairs, seed)
    panel = Panel("simulated", "likeness", "mira", "mini", tuple(cells), ("f" * 64,), tuple(images), drawn, seed)
    return World(panel, np.array(truth))


def person(place: int) -> str:
    return f"{place:016x}"


def vote(
    world: World, people: int, seed: int, careless: Sequence[int] = (), unsure: float = 0.0, left: Sequence[int] = ()
) -> dict[str, dict[int, Vote]]:
    """The last votes of so many people: some careless, some always left; of close ones they cannot tell (`unsure`)."""
    generator = np.random.default_rng([seed, 1])
    found: dict[str, dict[int, Vote]] = {}
    for place in range(people):
        own: dict[int, Vote] = {}
        for shown in order_for(world.panel, person(place)):
            gap = float(world.truth[shown.left] - world.truth[shown.right])
            if place in left:
                choice: Choice = "left"
            elif place in careless:
                choice = ("left", "right", "neither")[generator.integers(3)]
            elif shown.left == shown.right or abs(gap) < unsure:
                choice = "neither"
            else:
                choice = "left" if generator.random() < 1 / (1 + np.exp(-gap)) else "right"
            own[shown.pair] = Vote(world.panel.id, person(place), shown.pair, shown.left, shown.right, choice, 1500)
        found[person(place)] = own
    return found


def judge(world: World, noise: float, seed: int, name: str = "judge") -> Measured:
    """A score that sees how good an image is, with normal noise."""
    generator = np.random.default_rng([seed, 2])
    values = world.truth + noise * generator.normal(size=len(world.truth))
    return Measured(name, "identity", True, tuple(map(float, values)))
