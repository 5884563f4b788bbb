"""The main job on the embedded model: guided, judged, bit for bit the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sosie.core import Guide, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.core.errors import BadModelError
from sosie.core.plan import Draw, asset_names, without_guides
from sosie.families.sdxl.samplers import SAMPLERS

pytestmark = pytest.mark.local
Sosie = Callable[..., Any]


@pytest.fixture(scope="module")
def model() -> Path:
    """The embedded model as a stock diffusers folder."""
    import sosie_mini

    return sosie_mini.folder()


@pytest.fixture(scope="module")
def runner() -> Iterator[Any]:
    """One runner for the module: the weights are loaded once a set of guides."""
    from sosie.families.sdxl.on_diffusers import Runner

    def identity(_guide: Guide, plan: Plan) -> np.ndarray[Any, np.dtype[np.float32]]:
        vector = np.random.default_rng(len(plan.character.name)).normal(size=256).astype(np.float32)
        return vector / np.linalg.norm(vector)

    made = Runner("cpu", identity)
    yield made
    made.close()


def recipe(sampler: Sampler, guided: bool = True) -> Recipe:
    guide = Guide("faceid", "mini:ip-adapter/ip-adapter-faceid_mini.safetensors", "mini:id_encoder.onnx")
    made = Recipe(
        "t", (Stage("generate", "sdxl", "mini", sampler, (guide,)),), "portrait of {description}, {prompt}", 256, 256
    )
    return made if guided else without_guides(made)


def draw(runner: Any, model: Path, recipe: Recipe, name: str = "mira") -> np.ndarray[Any, np.dtype[np.uint8]]:
    from sosie.core import Character

    planned = plan(
        recipe,
        Character(name, "fictional", True, "a young woman"),
        Request("t", name, "smiling"),
        Draw(),
        dict.fromkeys(asset_names(recipe), ""),
    )
    paths = {name: model / name.partition(":")[2] for name in asset_names(recipe)}
    steps: list[tuple[int, int]] = []
    image = runner.run(planned.stages[0], planned, paths, lambda done, total: steps.append((done, total)))
    assert steps == [(step + 1, recipe.stages[0].sampler.steps) for step in range(recipe.stages[0].sampler.steps)]
    return np.asarray(image)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_draws_a_picture(runner: Any, model: Path, name: str) -> None:
    schedules = ("model", "karras") if SAMPLERS[name].takes_karras else ("model",)
    pictures = [draw(runner, model, recipe(Sampler(name, schedule, 8, 3.5))) for schedule in schedules]
    assert all(picture.std() > 25 for picture in pictures)
    if len(pictures) == 2:
        assert not np.array_equal(*pictures)


def test_the_face_guide_changes_the_picture_with_the_face(runner: Any, model: Path) -> None:
    one, other = (draw(runner, model, recipe(Sampler("euler", "model", 6, 3.5)), name) for name in ("mira", "an other"))
    assert np.abs(one.astype(int) - other.astype(int)).mean() > 3


def test_without_guidance_and_without_a_guide_it_draws_too(runner: Any, model: Path) -> None:
    guided = draw(runner, model, recipe(Sampler("euler", "model", 6, 1.0)))
    plain = draw(runner, model, recipe(Sampler("euler", "model", 6, 1.0), guided=False))
    assert guided.std() > 20
    assert plain.std() > 20
    assert not np.array_equal(guided, plain)


def test_a_model_folder_without_its_weights_is_named(runner: Any, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "mini"
    shutil.copytree(model, broken, ignore=shutil.ignore_patterns("diffusion_pytorch_model.safetensors"))
    with pytest.raises(BadModelError, match="could not be loaded as SDXL"):
        draw(runner, broken, recipe(Sampler("euler", "model", 2, 1.0), guided=False))


def test_the_main_job_delivers_and_repeats_bit_for_bit(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    from sosie.store import Store

    def run(root: Path, out: Path) -> list[dict[str, Any]]:
        result = sosie(
            "generate",
            "mira",
            "smiling, soft daylight, forest background",
            "-n",
            2,
            "--seed",
            7,
            "--recipe",
            "mini",
            "--out",
            out,
            "--workspace",
            root,
            "--json",
        )
        assert result.code == 0, result.err
        return [json.loads(line) for line in result.out.splitlines()]

    other = tmp_path / "other"
    shutil.copytree(workspace, other)
    first, second = run(workspace, tmp_path / "a"), run(other, tmp_path / "b")
    assert len([line for line in first if line["verdict"] == "keep"]) == 2
    assert [(a["plan"], a["seed"], a["scores"]) for a in first] == [(b["plan"], b["seed"], b["scores"]) for b in second]
    with Store.open(workspace / ".sosie") as ours, Store.open(other / ".sosie") as theirs:
        for line in first:
            pixels = [store.find_render(line["plan"], "diffusers-cpu") for store in (ours, theirs)]
            assert pixels[0] is not None
            assert pixels[1] is not None
            assert pixels[0].pixels == pixels[1].pixels
