"""A run's pictures beside the recipe's earlier ones: what is unlike them is told, and nothing else is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from renders import CARD, KEEP, MIRA, RECIPE, a_render

from sosie.core import Finding, Request, Score, Scorecard, Verdict
from sosie.loop.colours import check_colours
from sosie.loop.task import Attempt, Task
from sosie.store import Store
from sosie.store.record import Record

REJECT = Verdict("reject", ("noise",))
TASK = Task("t", RECIPE, MIRA, Request("mini", "mira", "smiling"), 1, 4, cast("Any", None))


def card(saturation: float, red: float = 8.0) -> Scorecard:
    looks = {"saturation": saturation, "green_red": red, "blue_yellow": 12.0}
    return Scorecard((*CARD.scores, *(Score("look", name, value, None, None) for name, value in looks.items())))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".sosie") as opened:
        yield opened


def attempt(store: Store, seed: int, saturation: float, verdict: Verdict = KEEP) -> Attempt:
    render = a_render(seed)
    stored = store.add_render(render)
    store.add_scorecard(stored.id, "gate", card(saturation), verdict)
    return Attempt(TASK, render.plan, stored, card(saturation), verdict, resumed=False)


def told(store: Store, *attempts: Attempt) -> list[Finding]:
    with Record(store.folder) as record:
        return list(check_colours(record, attempts))


def test_what_is_unlike_the_kept_images_before_it_is_told_by_its_file(store: Store) -> None:
    for seed in range(25):
        attempt(store, seed, 15 + seed % 5)
        attempt(store, 100 + seed, 80, REJECT)  # what was not kept is nothing to be like
    usual, odd = attempt(store, 200, 18), replace(attempt(store, 201, 80), delivered=Path("/out/mira-1.png"))
    (finding,) = told(store, usual, odd)
    assert (finding.code, finding.severity, finding.subject) == ("SOS-J011", "info", "mira-1.png")
    assert "it is more colourful than the 25 earlier images" in finding.message
    assert "saturation 80.0, the median of theirs is 17.0" in finding.message


def test_nothing_is_compared_with_few_images_with_itself_or_with_another_recipes(store: Store) -> None:
    for seed in range(19):
        attempt(store, seed, 15)
    run = [attempt(store, 200 + at, 80) for at in range(8)]
    assert told(store, *run) == []  # 19 before this run: its own do not count
    attempt(store, 300, 15)
    other = replace(TASK, recipe=replace(RECIPE, name="other"))
    late = attempt(store, 301, 0.0)
    assert [finding.code for finding in told(store, late)] == ["SOS-J011"]
    assert told(store, replace(late, task=other)) == []


def test_what_was_not_drawn_now_or_not_kept_is_not_told(store: Store) -> None:
    for seed in range(25):
        attempt(store, seed, 15)
    odd = attempt(store, 200, 80)
    assert told(store, replace(odd, resumed=True)) == []
    assert told(store, replace(odd, verdict=REJECT)) == []
    assert told(store) == []
