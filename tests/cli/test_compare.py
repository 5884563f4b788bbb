"""`sosie compare` on the command line, and its page: every text is text, and only its own script runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import EXAMPLES

from sosie.api.comparing.sentences import in_words, notes
from sosie.lab.comparison import Row, compared
from sosie.lab.sides import Side, SideImage
from sosie.reports.comparison.page import ComparisonPage, Line, ShownPair, comparison_page, shown_first
from sosie.reports.words import Language

Sosie = Callable[..., Any]
HOSTILE = """</style></script><script>alert(1)</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"""


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "one", tmp_path / "two"]
    for folder, shift in zip(made, (0, 1), strict=True):
        folder.mkdir()
        for place in range(2):
            shutil.copy(EXAMPLES / f"{place + shift:02}.jpg", folder / f"{place}.jpg")
    return made


def test_folders_are_compared_by_every_score_in_text_json_and_a_page(
    sosie: Sosie, workspace: Path, folders: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    words = ["compare", *folders, "--character", "mira", "--out", out, "--workspace", workspace]
    done = sosie(*words, "--json")
    line = json.loads(done.out.splitlines()[-1])
    assert done.code == 0
    assert [pair["block"] for pair in line["pairs"]] == ["0", "1"]
    by_name = {row["name"]: row for row in line["scores"]}
    assert by_name["sface"]["n"] == 2
    assert by_name["sface"]["low"] < by_name["sface"]["difference"] < by_name["sface"]["high"]
    assert {"noise", "text"} <= by_name.keys()
    page = out.read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 2 * 2 + 2 * 3
    text = sosie(*words[:3], "--no-page", "--workspace", workspace)
    assert "sface" not in text.out
    assert "noise\t" in text.out


@pytest.mark.parametrize(("words", "says"), [(["x.png", "y.png"], "is no image"), (["one", "empty"], "holds no image")])
def test_what_cannot_be_compared_is_one_line(
    sosie: Sosie, folders: list[Path], monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(folders[0].parent)
    Path("empty").mkdir()
    done = sosie("compare", *words)
    assert done.code == 2
    assert says in done.err


def page_of(text: str, language: Language = "en") -> str:
    image = EXAMPLES / "00.jpg"
    line = Line(text, text, text, text, text, text, "b")
    pair = ShownPair(text, image, image, ((text, "1", "2"),))
    return comparison_page(ComparisonPage(text, text, (text, text), (line,), (pair,), (text,), "asked", language))


def test_the_french_page_and_its_figures_are_french() -> None:
    page = page_of("x", "fr")
    assert '<html lang="fr">' in page
    for word in ("écart (intervalle à 95 %)", 'data-slide="Curseur"', "scores de cette paire", "Fait par Sosie"):
        assert word in page, word
    for word in ("difference", "Slider", "Side by side", "Made by"):
        assert word not in page, word
    row = Row("sface", "identity", True, 3, 0.5, 0.6, 0.1, 0.05, 0.15, 0, 3, 0, 0, 1)
    line = in_words(row, "fr")
    assert (line.difference, line.verdict) == ("+0,100 (+0,050 à +0,150)", "b")
    assert line.pairs == "3 : A meilleur dans 0, B dans 3"
    assert line.note == "plus haut est mieux; 1 de B sans valeur"
    one = Side("run 3", (SideImage(Path("a.png"), "a"),), "the first attempt at each image, kept or not")
    sides = compared((one, one), [(one.images[0], one.images[0])], ("b",), [])
    said = notes(sides, "fr")
    assert said[0] == "A : run 3, la première tentative de chaque image, gardée ou non."
    assert said[-1].startswith("1 images n'ont pas de pendant")


def test_every_text_of_the_page_is_text_and_its_policy_names_its_only_script() -> None:
    page = page_of(HOSTILE)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49" not in re.sub(r"base64,[^\"]*", "", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    assert not re.search(r"https?://|\son\w+=[\"']", re.sub(r"base64,[^\"]*", "", page_of("plain")))


def test_the_largest_differences_are_shown_first_and_those_without_one_last() -> None:
    assert shown_first([0.1, None, -0.5, 0.2]) == [2, 3, 0, 1]
    assert shown_first([0.1, None, -0.5, 0.2], 2) == [2, 3]
