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
