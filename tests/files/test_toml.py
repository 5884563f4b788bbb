"""Strict TOML: what is not known is an error that names the nearest valid thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sosie.api.recipes import copy_recipe
from sosie.core import Recipe
from sosie.core.errors import BadFileError, ConfigError, NotFoundError, UsageError
from sosie.files.toml import load_toml, read_toml
from sosie.workspace.recipes import list_recipes, load_recipe, read_recipe
from sosie.workspace.workspace import Config, open_workspace

GOOD = """
name = "good"
prompt = "{prompt}"
width = 256
height = 256
[[stages]]
kind = "generate"
family = "sdxl"
model = "mini"
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("widht = 3\n", "unknown key 'widht'; did you mean 'width'"),
        ("summary = 3\n", "summary = 3 is not a text"),
        ('[acceptance]\nfmr = "5 %"\n', "acceptance.fmr = '5 %' is not a number"),
        ("[acceptance]\nfrm = 0.05\n", "unknown key 'frm' in .acceptance.; did you mean 'fmr'"),
        ('[acceptance]\njudges = "sface"\n', "acceptance.judges = 'sface' is not a list"),
        ("[acceptance]\njudges = [1]\n", r"acceptance.judges\[0\] = 1 is not a text"),
    ],
)
def test_a_wrong_line_is_named_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    parts = GOOD.split("[[stages]]")
    text = parts[0] + line + "[[stages]]" + parts[1] if not line.startswith("[") else GOOD + line
    with pytest.raises(ConfigError, match=message):
        load_toml(Recipe, write(tmp_path / "good.toml", text))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("width = 256", "width = true", "width = True is not a whole number"),
        ("width = 256", "width = 256.0", "width = 256.0 is not a whole number"),
        ('kind = "generate"', 'kind = "genrate"', "stages.0..kind = 'genrate' is not allowed; did you mean 'generate'"),
        ('name = "good"\n', "", "key 'name' is missing"),
        ("width = 256", "width 256", "not valid TOML.*line 4"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_toml(Recipe, write(tmp_path / "good.toml", GOOD.replace(before, after)))


def test_a_recipe_must_be_named_as_its_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected 'other'"):
        read_recipe(write(tmp_path / "other.toml", GOOD))


@pytest.mark.parametrize("text", ["[acceptance]\nfmr = 0.0", "[acceptance]\nfmr = 1.0"])
def test_an_impossible_false_match_rate_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="not between 0 and 1"):
        read_recipe(write(tmp_path / "good.toml", GOOD + text))


def test_every_shipped_recipe_is_valid(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    recipes = list_recipes(workspace)
    assert "mini" in recipes
    for name in recipes:
        assert load_recipe(workspace, name).name == name


def test_a_copied_recipe_can_be_loaded_and_is_never_overwritten(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    path = copy_recipe(workspace, "mini", "mine")
    assert load_recipe(workspace, "mine").stages == load_recipe(workspace, "mini").stages
    assert path.read_text().count("mine") == 1
    with pytest.raises(UsageError, match="exists already"):
        copy_recipe(workspace, "mini", "mine")


def test_an_unknown_recipe_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'mini'"):
        load_recipe(open_workspace(tmp_path), "minni")


def test_the_workspace_file_is_strict_too(tmp_path: Path) -> None:
    write(tmp_path / "sosie.toml", '[judges.aura]\nonx = "x.onnx"\n')
    with pytest.raises(ConfigError, match=r"unknown key 'onx' in .judges.aura.; did you mean 'onnx'"):
        open_workspace(tmp_path)
    write(tmp_path / "sosie.toml", '[judges.aura]\nonnx = "x.onnx"\n[models]\nbig = "~/big.safetensors"\n')
    config: Config = open_workspace(tmp_path).config
    assert config.judges["aura"].onnx == "x.onnx"
    assert config.models == {"big": "~/big.safetensors"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "9" * 5000, "4300 digits"),
        ("a = 0x" + "f" * 5000, "a is a whole number of more than 64 bits"),
        ("a.b = [1e999]", r"a\.b\[0\] = inf is not a number"),
        ("a = nan", "a = nan is not a number"),
        ('a = "\\u0000"', "a holds a NUL"),
        ("a = " + "[" * 1000 + "]" * 1000, "nested 1,000 deep"),
        ("a = " + "{b=" * 1000 + "1" + "}" * 1000, "nested 1,000 deep"),
        ("a" + ' . "b"' * 1000 + " = 1", "nested 1,000 deep"),
        ('a = """' + "x" * 100, "not valid TOML"),
        ('a = "' + '\\"' * 200_000, "not valid TOML"),
        ("a = '\\ud800", "not valid TOML"),
        ('a = "\\ud800"', "not valid TOML"),
    ],
)
def test_what_would_fell_the_parser_or_what_comes_later_is_one_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadFileError, match=message):
        read_toml(write(tmp_path / "a.toml", text))


def test_brackets_and_dots_in_texts_and_comments_are_no_depth(tmp_path: Path) -> None:
    one, two, three = "[." * 99, '\\"{.' * 99, '\n"[["{{.' * 99
    text = f'# {one}\na = \'{one}\'\nb = "{two}"\nc = """{three}"""\n[[d]]\n'
    assert list(read_toml(write(tmp_path / "a.toml", text))) == ["a", "b", "c", "d"]


def test_a_value_is_shown_cut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toml(Recipe, write(tmp_path / "good.toml", GOOD.replace("width = 256", f"width = '{'x' * 99999}'")))
    assert len(caught.value.message) < 400
