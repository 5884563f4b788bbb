"""Drawing the pairs of a panel: every two cells equally often, all blocks in turn, and the attention checks."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from sosie.core.errors import UsageError
from sosie.panels.panel import Pair, PanelImage

CHECKS = 0.1
"""The share of the test pairs that is shown again, and as many pairs of one image twice."""


def draw_pairs(images: Sequence[PanelImage], cells: Sequence[str], n: int, seed: int) -> tuple[Pair, ...]:
    """`n` test pairs of different cells within a block, then repeats and identical pairs, 10 % each and one at least.

    Fewer test pairs where the images give no more. Two cells are compared as often as any other two, to one pair
    where the blocks allow it. Raises `UsageError` where no block has images of two cells.
    """
    generator = np.random.default_rng(seed)
    tests = _test_pairs(images, cells, n, generator)
    if not tests:
        raise UsageError(
            "no block has images of two cells; expected the same prompts and seeds, or files of the same names",
            "sosie compare A B says what it pairs",
        )
    count = max(1, round(CHECKS * len(tests)))
    repeated = [int(place) for place in generator.choice(len(tests), min(count, len(tests)), replace=False)]
    repeats = [Pair(tests[place].a, tests[place].b, "repeat", place) for place in sorted(repeated)]
    same = [int(place) for place in generator.choice(len(images), min(count, len(images)), replace=False)]
    return (*tests, *repeats, *(Pair(place, place, "identical") for place in same))


def _test_pairs(
    images: Sequence[PanelImage], cells: Sequence[str], n: int, generator: np.random.Generator
) -> list[Pair]:
    by_cell: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for place, image in enumerate(images):
        by_cell[image.cell][image.block] = place
    queues: list[list[Pair]] = []
    for one, other in itertools.combinations(cells, 2):
        shared = sorted(by_cell[one].keys() & by_cell[other].keys())
        generator.shuffle(shared)
        queues.append([Pair(by_cell[one][block], by_cell[other][block]) for block in shared])
    found: list[Pair] = []
    while len(found) < n and any(queues):
        for queue in queues:
            if queue and len(found) < n:
                found.append(queue.pop())
    return found
