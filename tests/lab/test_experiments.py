"""Experiments before they are drawn: arms as recipes, each examined, and what is wrong with a file named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from header_files import model
from places import ROOT

from sosie.core import Character
from sosie.core.finding import RuleError
from sosie.lab.arms import arm_recipes, cells
from sosie.lab.check import CheckedArm, CheckedExperiment, check_experiment
from sosie.lab.experiment import is_experiment, read_experiment
from sosie.workspace.workspace import Workspace, open_workspace

Sosie = Callable[..., Any]

EXAMPLE = ROOT / "examples" / "zimage-face-reference.toml"
ELENA = Character("elena", "fictional", True, "a woman")

HEAD = 'name = "x"\ncharacter = "elena"\nrecipe = "zimage"\n'
CFG = "stages.generate.sampler.cfg"


@pytest.fixture
def zimage(tmp_path: Path) -> Workspace:
    """A workspace with the files that the eight settings name."""
    models = tmp_path / "models"
    model(models / "z_image_bf16.safetensors", "zimage-single")
    model(models / "qwen_3_4b.safetensors", "qwen3-4b")
    model(models / "ae.safetensors", "vae-16-single")
    model(models / "siglip2.safetensors", "clip-h-vision")
    return open_workspace(tmp_path)


def written(folder: Path, text: str) -> Path:
    path = folder / "x.toml"
    path.write_text(HEAD + text)
    return path


def checked(workspace: Workspace, path: Path) -> CheckedExperiment:
    return check_experiment(workspace, read_experiment(path), path)


def codes(arm: CheckedArm) -> list[str]:
    return [finding.code for finding in arm.findings]


# The eight settings


@pytest.mark.usefixtures("unprobed")
def test_the_eight_settings_are_stopped_before_a_picture_each_for_a_reason_of_its_own(zimage: Workspace) -> None:
    found = checked(zimage, EXAMPLE)
    assert [arm.name for arm in found.arms] == list("ABCDEFGH")
    assert all(arm.is_stopped for arm in found.arms)
    shared = [(finding.code, finding.severity) for finding in found.findings if finding.severity != "info"]
    assert shared == [("SOS-Q004", "warning"), ("SOS-R030", "error")]
    own = {arm.name: codes(arm) for arm in found.arms}
    expected = ["R036", "R037", "R037", "R037", "R038", "R038", "R021", "Q003"]
    assert own == {name: [f"SOS-{code}"] for name, code in zip("ABCDEFGH", expected, strict=True)}
    messages = [arm.findings[0].message for arm in found.arms]
    assert len(set(messages)) == 8
    said = (
        "the final prompt is empty",
        "'reference image'",
        "'image one'",
        "'image1'",
        "nothing to switch",
        "3 pictures",
        "CFG 1.5",
        "768",
    )
    for words, message in zip(said, messages, strict=True):
        assert words in message


@pytest.mark.usefixtures("unprobed")
def test_the_same_settings_on_weights_that_take_references_are_not_stopped(zimage: Workspace) -> None:
    model(zimage.models / "z_image_bf16.safetensors", "zimage-omni")
    found = checked(zimage, EXAMPLE)
    assert "SOS-R030" not in [finding.code for finding in found.findings]
    assert not any(arm.is_stopped for arm in found.arms)
    own = {code for arm in found.arms for code in codes(arm)}
    assert own.isdisjoint({"SOS-R036", "SOS-R037", "SOS-R038", "SOS-Q003"})


@pytest.mark.usefixtures("unprobed")
def test_the_reason_is_told_by_the_name_of_published_weights_that_are_not_here(tmp_path: Path) -> None:
    found = checked(open_workspace(tmp_path), EXAMPLE)
    (reason,) = [finding for finding in found.findings if finding.code == "SOS-R030"]
    assert reason.severity == "error"
    assert "by its name" in reason.message


def test_the_doctor_shows_each_arm_and_its_findings(sosie: Sosie, tmp_path: Path) -> None:
    done = sosie("doctor", EXAMPLE, "--workspace", tmp_path)
    assert done.code == 1
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert rows[0][1:] == ["8 of 8 arms stopped", "experiment"]
    assert [(row[0].strip(), row[1]) for row in rows[1:]] == [(name, "stopped") for name in "ABCDEFGH"]
    assert "C: stage generate: the prompt says 'image one'" in done.err
    done = sosie("doctor", EXAMPLE, "--workspace", tmp_path, "--json")
    (line,) = map(json.loads, done.out.splitlines())
    assert (done.code, line["kind"], len(line["arms"])) == (1, "experiment", 8)
    assert line["arms"][6]["changes"] == [f"{CFG} = 1.5"]
    assert line["arms"][6]["findings"][0]["code"] == "SOS-R021"
    assert {finding["code"] for finding in line["findings"]} >= {"SOS-R030", "SOS-R002"}


# Arms and cells


def test_an_arm_that_changes_nothing_is_the_plan_that_generate_draws(tmp_path: Path) -> None:
    from sosie.core import Draw, Request, plan
    from sosie.core.plan import asset_names, needed_stages
    from sosie.workspace.recipes import load_recipe

    workspace = open_workspace(tmp_path)
    text = f'prompts = ["a", "b"]\nseeds = [3, 4]\n[[arms]]\nname = "as is"\n[[arms]]\nname = "more"\nchange.{CFG} = 5'
    path = written(tmp_path, text)
    experiment = read_experiment(path)
    plain, more = arm_recipes(workspace, experiment, "x")
    recipe = load_recipe(workspace, "zimage")
    assets = dict.fromkeys(asset_names(needed_stages(recipe, ELENA)), "d" * 64)
    ids = [one.id for one in cells(plain, experiment, ELENA, assets)]
    wanted = [
        plan(recipe, ELENA, Request("zimage", "elena", prompt, seed=seed), Draw(), assets).id
        for prompt in "ab"
        for seed in (3, 4)
    ]
    assert ids == wanted
    assert set(ids).isdisjoint(one.id for one in cells(more, experiment, ELENA, assets))
    assert more.recipe is not None
    assert replace(more.recipe.stages[0].sampler, cfg=4.0) == recipe.stages[0].sampler


def test_axes_are_arms_of_every_combination_named_by_what_differs(tmp_path: Path) -> None:
    path = written(tmp_path, f"[axes]\n{CFG} = [3, 4.5]\nstages.generate.loras.character.weight = [0.6, 1.0]\n")
    arms = arm_recipes(open_workspace(tmp_path), read_experiment(path), "x")
    names = ["cfg=3, weight=0.6", "cfg=3, weight=1", "cfg=4.5, weight=0.6", "cfg=4.5, weight=1"]
    assert [arm.name for arm in arms] == names
    values = [(arm.recipe.stages[0].sampler.cfg, arm.recipe.stages[0].loras[0].weight) for arm in arms if arm.recipe]
    assert values == [(3, 0.6), (3, 1), (4.5, 0.6), (4.5, 1)]


def test_entries_of_lists_are_changed_by_kind_by_file_and_by_place(tmp_path: Path) -> None:
    text = """recipe = "sdxl-instantid"
[[arms]]
name = "a"
[arms.change]
stages.detail.guides.instantid.keypoints.scale = 0.5
stages.0.loras.character.weight = 0.3
stages.2.upscale.factor = 2
repair.0.sampler.denoise = 0.6
"""
    path = tmp_path / "x.toml"
    path.write_text('name = "x"\ncharacter = "elena"\n' + text)
    (arm,) = arm_recipes(open_workspace(tmp_path), read_experiment(path), "x")
    assert arm.recipe is not None
    generate, detail, upscale = arm.recipe.stages
    assert detail.guides[0].keypoints is not None
    assert (detail.guides[0].keypoints.scale, detail.guides[0].scale) == (0.5, 0.85)
    assert (generate.loras[0].weight, upscale.upscale.factor) == (0.3, 2)
    assert arm.recipe.repair[0].sampler.denoise == 0.6


# What is wrong with a file


WRONG = {
    '[[arms]]\nname = "a"\nwieght = 1': "unknown key 'wieght' in [arms[0]]",
    "questoin = 1\n[axes]\nwidth = [768]": "unknown key 'questoin'; did you mean 'question'?",
    "prompts = []\n[axes]\nwidth = [768]": "it has no prompts or no seeds",
    "seeds = [-1]\n[axes]\nwidth = [768]": "seeds: -1 is not 0 to 9223372036854775807",
    "seeds = [1, 1]\n[axes]\nwidth = [768]": "seeds: one is there twice",
    "question = 'why'": "neither [[arms]] nor [axes]",
    '[[arms]]\nname = "a"\n[[arms]]\nname = "a"': "arms: 'a' is there 2 times",
    'prompts = ["x", "y"]\n[[arms]]\nname = "a"\nprompts = ["z"]': "has 1 prompts and the experiment 2",
    "[axes]\nwidth = 768": "axes.width = 768 is not a list of values",
    "[axes]\nwidth = []": "axes.width = [] is not a list of values",
    "[change]\nstages.refine.sampler.cfg = 2\n[axes]\nwidth = [768]": "change.stages has no entry 'refine'",
    f"seeds = {list(range(1000))}\n[axes]\nwidth = {list(range(200))}": "200 arms x 1,000 images are more than",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert is_experiment(path)
    with pytest.raises(RuleError) as caught:
        checked(open_workspace(tmp_path), path)
    assert caught.value.code == "SOS-Q001"
    assert WRONG[text] in caught.value.message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stages.generate.sampler.cgf = 2", "unknown key 'cgf' in [stages[0].sampler]; did you mean 'cfg'?"),
        ("stages.generate.sampler.cfg = 'x'", "stages[0].sampler.cfg = 'x' is not a number"),
        ("stages.generate.sampler.steps = 0", "stages[0].sampler.steps = 0 is not 1 to 1000"),
        ("stages.generate.loras.mine.weight = 1", "has no entry 'mine'; known: character"),
        ("stages.generate.guides = [{ kind = 'referense' }]", "did you mean 'reference'?"),
        ("name = 'mine'", "expected 'zimage'"),
    ],
)
def test_an_arm_that_makes_no_recipe_is_told_and_stops_no_other(tmp_path: Path, change: str, said: str) -> None:
    path = written(tmp_path, f'[[arms]]\nname = "bad"\nchange.{change}\n[[arms]]\nname = "good"\n')
    bad, good = checked(open_workspace(tmp_path), path).arms
    assert codes(bad) == ["SOS-Q001"]
    assert said in bad.findings[0].message
    assert "arm 'bad'" in bad.findings[0].message
    assert "SOS-Q001" not in codes(good)


def test_arms_that_resolve_to_the_same_plans_are_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, f'[[arms]]\nname = "a"\n[[arms]]\nname = "b"\nchange.{CFG} = 4.0\n')
    found = checked(open_workspace(tmp_path), path)
    (same,) = [finding for finding in found.findings if finding.code == "SOS-Q002"]
    assert "'a' and 'b'" in same.message
    assert all(arm.is_stopped for arm in found.arms)


def test_a_recipe_is_no_experiment_and_a_broken_file_stays_a_recipe_that_cannot_be_read(
    sosie: Sosie, tmp_path: Path
) -> None:
    assert not is_experiment(ROOT / "recipes" / "zimage.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[[arms]\n")
    assert not is_experiment(broken)
    done = sosie("doctor", broken, "--json")
    assert json.loads(done.out)["kind"] == "recipe"
    wrong = written(tmp_path, "[axes]\nwidth = 768")
    done = sosie("doctor", wrong, "--workspace", tmp_path, "--json")
    line = json.loads(done.out)
    assert (done.code, line["kind"], line["findings"][0]["code"]) == (1, "experiment", "SOS-Q001")


# Words, and references in recipes


@pytest.mark.parametrize(
    "prompt",
    [
        "photo of a woman in the reference library, first light",
        "a photo above the fireplace, an image of a lighthouse",
        "image un peu floue, portrait",
        "polaroid photo 35 mm, picture frame with 2 windows",
        "une image de marque, portrait",
    ],
)
def test_words_that_point_at_nothing_are_left_alone(tmp_path: Path, prompt: str) -> None:
    path = written(tmp_path, f'prompts = ["{prompt}"]\n[[arms]]\nname = "a"\n')
    (arm,) = checked(open_workspace(tmp_path), path).arms
    assert "SOS-R037" not in codes(arm)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("the woman from the photo above, smiling", "photo above"),
        ("le visage de l'image de référence", "image de référence"),
        ("la deuxième photo, de profil", "deuxième photo"),
        ("face like the reference, studio", "like the reference"),
        ("Picture 2 in a forest", "Picture 2"),
        ("use the attached photo", "attached photo"),
    ],
)
def test_words_that_point_at_a_picture_are_quoted(tmp_path: Path, prompt: str, said: str) -> None:
    path = written(tmp_path, f'prompts = ["{prompt}"]\n[[arms]]\nname = "a"\n')
    (arm,) = checked(open_workspace(tmp_path), path).arms
    (told,) = [finding for finding in arm.findings if finding.code == "SOS-R037"]
    assert f"'{said}'" in told.message


@pytest.mark.usefixtures("unprobed")
def test_weights_of_an_unknown_name_that_are_not_here_are_a_warning(tmp_path: Path) -> None:
    text = """[change]
stages.generate.model = "my-own"
stages.generate.guides = [{ kind = "reference", image_encoder = "siglip2" }]
[[arms]]
name = "a"
"""
    path = written(tmp_path, text)
    (arm,) = checked(open_workspace(tmp_path), path).arms
    assert ("SOS-R030", "warning") in [(finding.code, finding.severity) for finding in arm.findings]
