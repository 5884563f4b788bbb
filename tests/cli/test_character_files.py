"""`sosie character`: out to a file and in from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_lines import lines

pytestmark = pytest.mark.once
Sosie = Callable[..., Any]


def test_a_character_goes_out_and_comes_in(sosie: Sosie, tmp_path: Path, references: list[Path]) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    given = ("--likeness", "fictional", "--adult", "--description", "a woman")
    assert sosie("new", "mira", *references[:4], *given, "--workspace", home).code == 0
    own, char = tmp_path / "mira.sosie", tmp_path / "mira.char"
    out = sosie("character", "export", "mira", own, "--json", "--workspace", home)
    assert lines(out.out)[0]["references"] == 4
    assert sosie("character", "export", "mira", char, "--workspace", home).code == 0
    back = sosie("character", "import", own, "--workspace", away)
    assert (back.code, back.out.strip()) == (0, str(away / "characters" / "mira"))
    assert "declared by who made the file: fictional, adult" in back.err
    asked = sosie("character", "import", char, "--as", "ada", "--workspace", away)
    assert asked.code == 2
    assert "--likeness is missing" in asked.err
    given = ("--likeness", "consented", "--adult")
    made = sosie("character", "import", char, "--as", "ada", *given, "--json", "--workspace", away)
    assert (lines(made.out)[0]["character"], lines(made.out)[0]["references"]) == ("ada", 4)
    refused = sosie("character", "import", own, "--as", "eve", *given, "--workspace", away)
    assert refused.code == 2
    assert "--likeness is for .char files" in refused.err


def test_a_character_gets_other_words_whatever_shape_its_file_has(sosie: Sosie, workspace: Path) -> None:
    file = workspace / "characters/mira/character.toml"
    edit = ("character", "edit", "mira", "--workspace", workspace)
    done = sosie(*edit, "--description", "a man \\d", "--mark", "a scar", "--mark", "one ear", "--json")
    assert lines(done.out) == [{"character": "mira", "description": "a man \\d", "marks": ["a scar", "one ear"]}]
    file.write_text(file.read_text().replace('marks = ["a scar", "one ear"]', 'marks = [\n  "a scar",\n]'))
    assert lines(sosie(*edit, "--description", "a woman", "--json").out)[0]["marks"] == ["a scar"]
    assert lines(sosie(*edit, "--no-marks", "--json").out)[0] == {
        "character": "mira", "description": "a woman", "marks": []
    }  # fmt: skip
    for wrong in ((), ("--mark", "x", "--no-marks")):
        assert sosie(*edit, *wrong).code == 2
