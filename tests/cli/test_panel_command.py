"""`sosie panel` from images to figures, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter
from places import EXAMPLES
from simulated_panel import World, vote

pytest.importorskip("choix", reason="choix is not installed: pip install 'sosie[panel]'")

import numpy as np

from sosie.panels.folder import open_panel
from sosie.workspace.workspace import open_workspace

Sosie = Callable[..., Any]


@pytest.fixture
def cells(tmp_path: Path) -> list[Path]:
    """The same three files, as they are and blurred."""
    folders = [tmp_path / "sharp", tmp_path / "blurred"]
    for folder, radius in zip(folders, (0, 3), strict=True):
        folder.mkdir()
        for name in ("00", "01", "02"):
            with Image.open(EXAMPLES / f"{name}.jpg") as image:
                image.filter(ImageFilter.GaussianBlur(radius)).save(folder / f"{name}.png")
        (folder / "notes.txt").write_text("not an image")
    return folders


def test_a_panel_is_made_and_counted_and_says_that_nobody_has_voted(
    sosie: Sosie, workspace: Path, cells: list[Path]
) -> None:
    made = sosie("panel", "new", "look", *cells, "--character", "mira", "--json", "--workspace", workspace)
    (line,) = map(json.loads, made.out.splitlines())
    assert line["cells"] == {"sharp": 3, "blurred": 3}
    assert line["pairs"] == {"test": 3, "repeat": 1, "identical": 1}
    again = sosie("panel", "new", "look", *cells, "--character", "mira", "--workspace", workspace)
    assert again.code == 2
    assert "a panel stays as people saw it" in again.err

    empty = sosie("panel", "report", "look", "--workspace", workspace)
    assert empty.code == 1
    assert "nobody has voted yet: nothing is said of the cells or the judges" in empty.out

    folder = open_panel(open_workspace(workspace), "look")
    truth = np.array([3.0 if image.cell == "sharp" else 0.0 for image in folder.panel.images])
    for person in vote(World(folder.panel, truth), 5, 1).values():
        for one in person.values():
            folder.votes.append(one)
    counted = sosie("panel", "report", "look", "--json", "--workspace", workspace)
    found = json.loads(counted.out.splitlines()[-1])
    assert counted.code == 0
    assert found["cells"][0]["cell"] == "sharp"
    assert found["votes"] == 15
    assert found["people_with_people"]["n"] == 30
    assert {score["name"] for score in found["scores"]} >= {"sface", "noise"}
    assert all(one["value"] is None and "votes" in one["why_not"] for one in found["thresholds"])
    text = sosie("panel", "report", "look", "--workspace", workspace).out
    assert "cell\tsharp\tchosen over the mean cell" in text
    assert "people with each other\t" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["one.png"], "two cells at least"),
        (["nothing", "nothing"], "'nothing' is no image, no folder, no run and no cell"),
        (["run:7", "run:8"], "does not exist"),
        (["sharp", "sharp"], "one cell is named twice"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    sosie: Sosie, workspace: Path, cells: list[Path], monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(cells[0].parent)
    done = sosie("panel", "new", "look", *words, "--character", "mira", "--workspace", workspace)
    assert done.code == 2
    assert says in done.err
    assert not (workspace / "panels" / "look").exists()


def test_a_panel_that_is_not_there_names_the_nearest(sosie: Sosie, workspace: Path, cells: list[Path]) -> None:
    assert sosie("panel", "new", "look", *cells, "--character", "mira", "--workspace", workspace).code == 0
    for command in ("serve", "report"):
        done = sosie("panel", command, "lock", "--workspace", workspace)
        assert done.code == 2
        assert "did you mean 'look'?" in done.err


def test_a_panel_with_a_path_for_a_digest_is_refused(sosie: Sosie, workspace: Path, cells: list[Path]) -> None:
    assert sosie("panel", "new", "look", *cells, "--character", "mira", "--workspace", workspace).code == 0
    file = workspace / "panels" / "look" / "panel.json"
    table = json.loads(file.read_text())
    table["references"] = ["../../../../etc/passwd"]
    file.write_text(json.dumps(table))
    done = sosie("panel", "report", "look", "--workspace", workspace)
    assert done.code == 2
    assert "expected digests as the names of images" in done.err
