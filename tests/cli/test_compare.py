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

from sosie.reports.comparison import ComparisonPage, Line, ShownPair, comparison_page, shown_first

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
    sosie: Sosie, workspace: Path, folders: list[Path], monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(folders[0].parent)
    Path("empty").mkdir()
    done = sosie("compare", *words, "--workspace", workspace)
    assert done.code == 2
    assert says in done.err


def page_of(text: str) -> str:
    image = EXAMPLES / "00.jpg"
    line = Line(text, text, text, text, text, text, "b")
    return comparison_page(
        ComparisonPage(
            text, text, (text, text), (line,), (ShownPair(text, image, image, ((text, "1", "2"),)),), (text,), "asked"
        )
    )


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
