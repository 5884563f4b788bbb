"""A panel is whole or an error, its pairs are balanced, and everybody sees them in an order of their own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from simulated_panel import world

from sosie.core.errors import ConfigError, UsageError
from sosie.core.schema import from_table, to_table
from sosie.panels.drawing import draw_pairs
from sosie.panels.order import APART, order_for
from sosie.panels.panel import Pair, Panel, PanelImage

CELLS = {"a": 0.0, "b": 0.0, "c": 0.0}


def test_any_two_cells_are_compared_as_often_and_a_tenth_are_checks() -> None:
    panel = world(CELLS, 50, 1, pairs=90).panel
    kinds = Counter(pair.kind for pair in panel.pairs)
    assert kinds == {"test": 90, "repeat": 9, "identical": 9}
    twos = Counter(tuple(sorted((panel.cell_of(p.a), panel.cell_of(p.b)))) for p in panel.pairs if p.kind == "test")
    assert set(twos.values()) == {30}
    assert all(panel.images[p.a].block == panel.images[p.b].block for p in panel.pairs)


def test_pairs_end_where_the_images_do() -> None:
    assert Counter(pair.kind for pair in world(CELLS, 2, 1).panel.pairs)["test"] == 6


def test_cells_without_a_common_block_make_no_panel() -> None:
    images = [PanelImage("0" * 64, "a", "one"), PanelImage("1" * 64, "b", "two")]
    with pytest.raises(UsageError, match="no block has images of two cells"):
        draw_pairs(images, ["a", "b"], 10, 0)


def test_everybody_has_an_order_and_sides_of_their_own_and_the_same_after_a_break() -> None:
    panel = world(CELLS, 40, 1, pairs=100).panel
    orders = [order_for(panel, f"{place:016x}") for place in range(20)]
    assert orders[3] == order_for(panel, f"{3:016x}")
    assert len({tuple(shown.pair for shown in order) for order in orders}) == 20
    for order in orders:
        assert sorted(shown.pair for shown in order) == list(range(len(panel.pairs)))
    flipped = [
        shown.left == panel.pairs[shown.pair].a for order in orders for shown in order if shown.left != shown.right
    ]
    assert 0.45 < sum(flipped) / len(flipped) < 0.55
    firsts = Counter(order[0].pair for order in orders)
    assert max(firsts.values()) < 5


def test_a_repeat_comes_well_after_its_first_showing() -> None:
    panel = world(CELLS, 40, 1, pairs=100).panel
    for place in range(30):
        order = [shown.pair for shown in order_for(panel, f"{place:016x}")]
        for repeat, pair in enumerate(panel.pairs):
            if pair.kind == "repeat":
                first = order.index(pair.of)
                assert order.index(repeat) > min(first + APART - 1, len(order) - 30)
                assert order.index(repeat) > first


def test_a_panel_is_read_back_as_it_was_written() -> None:
    panel = world(CELLS, 5, 1).panel
    again = from_table(Panel, to_table(panel), "panel.json")
    assert again == panel
    assert again.id == panel.id
    assert replace(panel, seed=2).id != panel.id


@pytest.mark.parametrize(
    "pair", [Pair(0, 99), Pair(-1, 1), Pair(0, 0), Pair(0, 3), Pair(0, 1, "identical"), Pair(0, 1, "repeat", 500)]
)
def test_pairs_that_cannot_be_are_refused(pair: Pair) -> None:
    panel = world(CELLS, 2, 1).panel
    with pytest.raises(ConfigError, match="expected pairs of its own images"):
        replace(panel, pairs=(*panel.pairs, pair))


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "", "0" * 63])
def test_a_file_that_is_no_digest_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="digests"):
        replace(world(CELLS, 2, 1).panel, references=(name,))
