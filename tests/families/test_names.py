"""Outside `families/` no code names a family: what is true of one stands in its folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sosie
from sosie.families import families

HOUSE = Path(sosie.__file__).parent

ALLOWED = {
    "engines/comfy/fake/": "the fake server has the files and choices that a real one has",
    "cli/": "examples in the help of options",
    "diffusion/qwen3/": "a text encoder that families share, known by the word of its configuration",
}

WORDS = {"clip", "t5", "language"}
"""Families whose names are words that the field, ComfyUI's inputs and we ourselves use for other things."""


def modules() -> list[Path]:
    return [path for path in HOUSE.rglob("*.py") if not path.is_relative_to(HOUSE / "families")]


def named(tree: ast.Module, names: set[str], titles: re.Pattern[str]) -> Iterator[ast.AST]:
    """Texts that are a family's name, or hold its title; docstrings are none."""
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in told else None
        if isinstance(text, str) and (text in names or titles.search(text)):
            yield node


@pytest.fixture(scope="module")
def known() -> tuple[set[str], re.Pattern[str]]:
    titles = "|".join(re.escape(family.title) for family in families() if family.name not in WORDS)
    return {family.name for family in families()} - WORDS, re.compile(rf"(?<![A-Za-z0-9])(?:{titles})(?![A-Za-z0-9])")


def test_no_module_outside_families_names_one(known: tuple[set[str], re.Pattern[str]]) -> None:
    found = [
        f"{path.relative_to(HOUSE).as_posix()}:{node.lineno}: {node.value!r}"
        for path in modules()
        if not path.relative_to(HOUSE).as_posix().startswith(tuple(ALLOWED))
        for node in named(ast.parse(path.read_text()), *known)
    ]
    assert found == []


def test_a_name_in_code_is_found_and_one_in_a_docstring_is_not(known: tuple[set[str], re.Pattern[str]]) -> None:
    rule = '"""About sdxl."""\nif family == "sdxl":\n    say("fp16 fails in Z-Image")\n'
    assert [node.lineno for node in named(ast.parse(rule), *known)] == [2, 3]
    assert not list(named(ast.parse('say("sdxlike")\n'), *known))


def test_every_exception_is_needed(known: tuple[set[str], re.Pattern[str]]) -> None:
    for place in ALLOWED:
        paths = [path for path in modules() if path.relative_to(HOUSE).as_posix().startswith(place)]
        assert any(list(named(ast.parse(path.read_text()), *known)) for path in paths), place
