"""The gallery: windows in every order, filters, and what people say beside what the machine says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from renders import a_render

from sosie.core import Score, Scorecard, Verdict
from sosie.core.errors import NotFoundError, UsageError
from sosie.store import Store, StoredRender
from sosie.store.gallery import Gallery, Query

IDENTITY = (0.2, 0.6, None, 0.4)
"""Of four images, the last of which nobody judged."""


@pytest.fixture
def stored(tmp_path: Path) -> list[StoredRender]:
    with Store.open(tmp_path / ".sosie") as store:
        found = [store.add_render(a_render(seed)) for seed in range(5)]
        for render, value in zip(found[:3], IDENTITY, strict=False):
            passed = None if value is None else value > 0.5
            why = "no face" if value is None else ""
            card = Scorecard(
                (
                    Score("identity", "sface", value, 0.5, passed=passed, reason=why),
                    Score("defect", "noise", 0.2, 0.1, passed=value != 0.2),
                )
            )
            store.add_scorecard(render.id, "gate", card, Verdict("keep" if passed else "reject", ("because",)))
    return found


@pytest.fixture
def gallery(stored: list[StoredRender], tmp_path: Path) -> Iterator[Gallery]:
    with Gallery(tmp_path / ".sosie") as opened:
        yield opened


def found(gallery: Gallery, stored: list[StoredRender], query: Query) -> list[int]:
    """Which images a query finds, in its order."""
    numbers = [one.id for one in stored]
    rows = gallery.window(query)
    assert gallery.count(query) == len(rows)
    assert [gallery.place(query, row.render) for row in rows] == list(range(len(rows)))
    return [numbers.index(row.render) for row in rows]


def test_every_order_and_filter_finds_what_it_says(gallery: Gallery, stored: list[StoredRender]) -> None:
    for query, expected in (
        (Query(), [2, 1, 0]),
        (Query(sort="oldest"), [0, 1, 2]),
        (Query(sort="identity"), [0, 1, 2]),
        (Query(sort="-identity"), [1, 0, 2]),  # without a value: last, in both
        (Query(machine="none"), [4, 3]),
        (Query(machine="keep"), [1]),
        (Query(failed="noise"), [0]),
        (Query(failed="' OR 1=1 --"), []),
        (Query(below=0.5), [0]),
        (Query(character="mira", recipe="mini"), [2, 1, 0]),
        (Query(character="nobody"), []),
        (Query(since="2999-01-01"), []),
        (Query(until="2000-01-01"), []),
        (Query(since="2000-01-01", until="2999-01-01"), [2, 1, 0]),
        (Query(job=7), []),
    ):
        assert found(gallery, stored, query) == expected, query
    with pytest.raises(UsageError, match="not known"):
        gallery.window(Query(sort="id; DROP TABLE renders"))


def test_a_window_begins_anywhere_and_brings_the_scores_with_their_reasons(
    gallery: Gallery, stored: list[StoredRender]
) -> None:
    (only,) = gallery.window(Query(sort="oldest"), 2, 5)
    assert only.sha256 == stored[2].sha256
    assert (only.outcome, only.reasons, only.seed) == ("reject", ("because",), stored[2].plan.seed)
    assert (only.scores[0].value, only.scores[0].reason) == (None, "no face")
    assert gallery.window(Query(), 99) == ()


def test_a_person_says_something_and_the_machine_s_verdict_stays(gallery: Gallery, stored: list[StoredRender]) -> None:
    assert gallery.say([stored[0].sha256, stored[1].sha256], "keep") == 2
    assert gallery.say([stored[0].sha256], None, 4) == 1
    first = gallery.image(stored[0].sha256)
    assert (first.opinion.verdict, first.opinion.stars, first.outcome) == ("keep", 4, "reject")
    assert found(gallery, stored, Query(differs=True)) == [0]
    assert found(gallery, stored, Query(human="keep")) == [1, 0]
    assert found(gallery, stored, Query(human="none")) == [2]
    assert found(gallery, stored, Query(sort="stars")) == [0, 2, 1]
    gallery.say([stored[0].sha256], "", 0)
    again = gallery.image(stored[0].sha256)
    assert (again.opinion.verdict, again.opinion.stars) == ("", None)


def test_a_judge_that_comes_later_does_not_take_a_person_s_word_away(
    gallery: Gallery, stored: list[StoredRender], tmp_path: Path
) -> None:
    gallery.say([stored[1].sha256], "reject", 2)
    with Store.open(tmp_path / ".sosie") as store:
        store.add_scorecard(stored[1].id, "another gate", Scorecard(()), Verdict("reject", ("stricter",)))
    one = gallery.image(stored[1].sha256)
    assert (one.outcome, one.reasons) == ("reject", ("stricter",))
    assert (one.opinion.verdict, one.opinion.stars) == ("reject", 2)


def test_all_that_match_are_said_of_at_once_and_nothing_of_an_unknown_image(
    gallery: Gallery, stored: list[StoredRender]
) -> None:
    assert gallery.say_of_all(Query(machine="reject"), "reject") == 2
    assert found(gallery, stored, Query(human="reject")) == [2, 0]
    with pytest.raises(NotFoundError):
        gallery.say([stored[1].sha256, "0" * 64], "keep")
    assert gallery.image(stored[1].sha256).opinion.verdict == ""
    with pytest.raises(UsageError, match="stars"):
        gallery.say([stored[1].sha256], None, 6)


def test_an_image_is_known_again_by_its_pixels(gallery: Gallery, stored: list[StoredRender]) -> None:
    known = gallery.of_pixels(stored[3].pixels)
    assert known is not None
    assert known.render == stored[3].id
    assert gallery.of_pixels("0" * 64) is None
    assert gallery.settings(known.plan)["recipe"] == "mini"
    assert gallery.choices() == {"characters": ["mira"], "recipes": ["mini"], "failed": ["noise", "sface"]}
