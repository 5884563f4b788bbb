"""Recipes that say what a block differs in, and name files whose terms stand once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from sosie.api.recipes import copy_recipe
from sosie.core import Character, CharacterLora, Draw, Recipe, Reference, Request, plan
from sosie.core.errors import ConfigError
from sosie.core.plan import asset_names, needed_stages
from sosie.core.recipe_table import with_files, written_out
from sosie.core.schema import digest
from sosie.workspace.recipes import list_recipes, load_recipe, read_recipe, recipe_text
from sosie.workspace.workspace import open_workspace

SHIPPED = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))
WRITTEN_OUT = {
    "hybrid": ("9be5fc9949436ff3", "e1f106c066347882", "cd056ac496426f7a"),
    "klein": ("9019bb8c4f9cb11c", "1a960522f99bf27c", "62ae8af1c08dd8c6"),
    "klein-edit": ("1b7462742d9eb4aa", "5fa39f708e28064a", "151056d3a896b5d1"),
    "mini": ("fcb8ab6bd5d4bcd2", "cefe549b14385bb5", "d512f14e8e4f1c19"),
    "mini-full": ("943bc84cf25e67cf", "98584c3dc1c7f653", "d512f14e8e4f1c19"),
    "mini-hybrid": ("ade63a20301deb3e", "732fc48d473d24b5", "d512f14e8e4f1c19"),
    "mini-z": ("63f488d80ed465e0", "", "643d5437104296e2"),
    "sdxl-instantid": ("ac37d138416bad90", "62c70ac06f24fbe6", "492924dc9eab0736"),
    "zimage": ("97f43405c5593043", "", "7dbe3b99355871c4"),
    "zimage-klein": ("6c7385e792f07c92", "75a0e566d2778fc1", "fa12bebbcb3a19ac"),
    "zimage-turbo": ("9ced5621acdf7439", "", "293cd19106c227ba"),
}
"""The ids of a plan and a repair, and the digest of what repairs. A recipe's change is meant: then they change."""

MIRA = Character(
    "mira",
    "fictional",
    True,
    "a woman",
    references=(Reference("references/00.jpg", "a" * 64),),
    loras=(
        CharacterLora("loras/x.safetensors", "sdxl", "b" * 64, 0.8, "m1ra"),
        CharacterLora("loras/z.safetensors", "zimage", "c" * 64, 1.0, "m1ra"),
    ),
)


def known(recipe: Recipe) -> tuple[str, str, str]:
    request = Request(recipe.name, "mira", "at the beach", seed=7)
    assets = {
        name: hashlib.sha256(name.encode()).hexdigest() for name in asset_names(needed_stages(recipe, MIRA, request))
    }
    first = plan(recipe, MIRA, request, Draw(0), assets).id
    repair = plan(recipe, MIRA, request, Draw(0, 1, first, "d" * 64), assets).id if recipe.repair else ""
    return first[:16], repair[:16], digest([recipe.repair, recipe.files])[:16]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_plans_are_those_of_the_recipe_written_out(name: str) -> None:
    assert known(read_recipe(ROOT / "recipes" / f"{name}.toml")) == WRITTEN_OUT[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_copy_needs_no_shared_table_and_is_the_same_recipe(tmp_path: Path, name: str) -> None:
    workspace = open_workspace(tmp_path)
    copied = copy_recipe(workspace, name, "mine")
    assert "files = [" not in copied.read_text(encoding="utf-8")
    assert known(load_recipe(workspace, "mine"))[2] == WRITTEN_OUT[name][2]
    assert load_recipe(workspace, "mine").stages == load_recipe(workspace, name).stages
    assert recipe_text(copied) == copied.read_text(encoding="utf-8")


def test_the_table_of_shared_files_is_no_recipe(tmp_path: Path) -> None:
    assert set(list_recipes(open_workspace(tmp_path))) == set(SHIPPED)


FACE = {
    "kind": "detail",
    "model": "sdxl",
    "sampler": {"steps": 30, "denoise": 0.5},
    "guides": [{"kind": "instantid", "scale": 0.85, "keypoints": {"scale": 0.8, "stick": 4.0}}],
    "loras": [{"file": "character", "weight": 0.7}, {"file": "other", "weight": 0.2}],
}


def repair(**block: Any) -> dict[str, Any]:
    return written_out({"stages": [FACE], "repair": [{"like": "detail", **block}]}, {}, "r.toml")["repair"][0]


def test_a_block_is_like_the_stage_but_for_what_it_gives() -> None:
    assert repair() == FACE
    assert repair(sampler={"denoise": 0.55}) == {**FACE, "sampler": {"steps": 30, "denoise": 0.55}}
    assert repair(kind="detail") == FACE
    found = repair(guides=[{"scale": 1.0, "keypoints": {"stick": 5.0}}])
    assert found["guides"] == [{"kind": "instantid", "scale": 1.0, "keypoints": {"scale": 0.8, "stick": 5.0}}]
    assert repair(loras=[]) == {**FACE, "loras": []}
    assert repair(loras=[{"weight": 0.5}])["loras"] == [{"file": "character", "weight": 0.5}]


def test_an_entry_of_another_kind_or_file_takes_nothing_over() -> None:
    assert repair(guides=[{"kind": "faceid", "scale": 1.0}])["guides"] == [{"kind": "faceid", "scale": 1.0}]
    assert repair(loras=[{"file": "third"}])["loras"] == [{"file": "third"}]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"stages": [FACE], "repair": [{"like": "detial"}]},
            r"r.toml: repair\[0\].like = 'detial' is no stage before it; did you mean 'detail'",
        ),
        ({"stages": [FACE, FACE], "repair": [{"like": "detail"}]}, "'detail' means 2 stages; write this block out"),
        ({"stages": [{"like": "detail"}, FACE]}, r"stages\[0\].like = 'detail' is no stage before it"),
        ({"repair": [{"like": ["detail"]}]}, r"repair\[0\].like = \['detail'\] is no stage"),
        ({"files": ["glintr10"]}, r"files\[0\] = 'glintr10' is not in the table of shared files; did you mean 'glint"),
    ],
)
def test_what_is_not_known_is_an_error_that_names_the_nearest(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        written_out(table, {"glintr100": {}}, "r.toml")


def test_a_wrong_key_of_a_block_is_named_with_its_place(tmp_path: Path) -> None:
    text = (ROOT / "recipes" / "hybrid.toml").read_text(encoding="utf-8")
    path = tmp_path / "hybrid.toml"
    path.write_text(text.replace("denoise = 0.55", "denoize = 0.55"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown key 'denoize' in \[repair\[0\].sampler\]; did you mean 'denoise'"):
        read_recipe(path)
    path.write_text(text.replace("denoise = 0.55", "denoise = 0.55").replace('"ae",', "3,"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"files\[2\] = 3 is not a table"):
        read_recipe(path)


def test_a_recipe_with_entries_of_its_own_is_left_as_it_is() -> None:
    shared = '[[files]]\nname = "a"  # from somewhere\nrole = "vae"\n\n[[files]]\nname = "b"\n'
    own = 'files = ["a", {name = "c"}]\n'
    assert with_files(own, shared) == own
    assert with_files('name = "x"\n# Sizes.\nfiles = [\n  "b",\n  "a",\n]\n\n[t]\nx = 1\n', shared) == (
        'name = "x"\n[t]\nx = 1\n\n# Sizes.\n[[files]]\nname = "b"\n\n'
        '[[files]]\nname = "a"  # from somewhere\nrole = "vae"\n'
    )
