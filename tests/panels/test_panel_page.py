"""The page of a panel: in English and French, with what people chose, and with nothing where nobody voted."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from simulated_panel import judge, vote, world

pytest.importorskip("choix", reason="choix is not installed: pip install 'sosie[panel]'")

from sosie.panels.results import Results, results
from sosie.reports.panel.page import panel_page, write_panel


@pytest.fixture(scope="module")
def counted() -> Results:
    one = world({"full": 0.9, "none": -0.9}, 48, 1)
    votes = vote(one, 5, 2, unsure=0.2, left=(4,))
    return results(one.panel, votes, [judge(one, 0.2, 3, "sface")])


def test_the_page_has_cells_scores_and_who_is_left_out_in_both_languages(counted: Results) -> None:
    english, french = panel_page(counted), panel_page(counted, "fr")
    for page, words in (
        (english, ("Cells", "people with each other", "chosen over the mean cell", "4 people", "sface")),
        (french, ('<html lang="fr">', "Cellules", "les gens entre eux", "4 personnes", "a choisi un côté dans")),
    ):
        assert not [word for word in words if word not in page]
    assert "chose a side" in english
    assert "chose a side" not in french
    assert "people" not in re.sub(r"<code>.*?</code>|<style>.*?</style>", "", french, flags=re.DOTALL)
    assert "<script" not in english


def test_without_votes_nothing_is_said_and_what_users_write_is_text(counted: Results, tmp_path: Path) -> None:
    named = replace(counted.panel, name="<script>x</script>")
    empty = results(named, {}, [])
    page = write_panel(empty, tmp_path / "panel.html").read_text(encoding="utf-8")
    assert "Nobody has voted yet" in page
    assert "<script>x" not in page
    assert "Bradley-Terry" not in page
