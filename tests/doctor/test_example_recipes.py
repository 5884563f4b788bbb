"""The three recipes of `examples/`, as a creator used them: nothing is wrong with them but that weights are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from creators_folder import make
from places import ROOT

from sosie.api.model_folders import AddedRecipe, add_folder
from sosie.core.plan import needed_stages
from sosie.doctor.licences import R040
from sosie.doctor.recipes import R002, check_recipe
from sosie.doctor.training import check_training
from sosie.workspace.bill import resolve
from sosie.workspace.recipes import read_recipe
from sosie.workspace.workspace import open_workspace

EXAMPLES = sorted((ROOT / "examples" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_doctor_says_nothing_but_what_is_missing_and_whose_licence_binds(path: Path, tmp_path: Path) -> None:
    recipe = read_recipe(path)
    findings = check_recipe(recipe, resolve(open_workspace(tmp_path), needed_stages(recipe)))
    assert {finding.code for finding in findings} == {R002.code, R040.code}
    assert check_training(recipe) == []


def test_they_are_those_of_the_week() -> None:
    sdxl, zimage, hybrid = (read_recipe(ROOT / "examples" / "recipes" / f"{name}.toml") for name in NAMES)
    drawn, face, large = sdxl.stages
    assert (drawn.sampler.name, drawn.sampler.cfg, drawn.loras[0].weight) == ("dpmpp_2m_sde", 4.0, 0.7)
    assert [guide.kind for guide in (*drawn.guides, *face.guides)] == ["faceid-plus-v2", "instantid"]
    assert [guide.scale for guide in (*drawn.guides, *face.guides)] == [0.85, 0.85]
    factor = large.upscale.factor
    assert (large.model, sdxl.width * factor, sdxl.height * factor) == ("4x-UltraSharp", 4096, 6144)
    settings = zimage.stages[0].sampler
    assert (settings.name, settings.schedule, settings.steps, settings.cfg) == ("res_multistep", "simple", 25, 4.0)
    assert (settings.shift, zimage.stages[0].guides) == (3.0, ())
    assert zimage.training is not None
    assert (zimage.training.rank, zimage.training.alpha, zimage.training.steps) == (32, 16.0, 4500)
    assert [(stage.family, stage.kind) for stage in hybrid.stages] == [("zimage", "generate"), ("sdxl", "detail")]


def test_a_creators_folder_fills_them(tmp_path: Path) -> None:
    models = make(tmp_path / "ComfyUI" / "models")
    (tmp_path / "recipes").mkdir()
    for path in EXAMPLES:
        (tmp_path / "recipes" / path.name).write_text(path.read_text())
    told = list(add_folder(open_workspace(tmp_path), models, {}))
    assert {one.recipe for one in told if isinstance(one, AddedRecipe) and one.is_whole} >= set(NAMES)
    workspace = open_workspace(tmp_path)
    for path in EXAMPLES:
        recipe = read_recipe(path)
        findings = check_recipe(recipe, resolve(workspace, needed_stages(recipe)))
        assert [finding.code for finding in findings] == [R040.code], path.name


NAMES = ("sdxl-instantid", "zimage", "hybrid")
