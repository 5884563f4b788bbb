"""The main job on the embedded model: guided, judged, bit for bit the same."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import EXAMPLES
from sights import watched

from sosie.core import (
    Character,
    Detail,
    Draw,
    Finding,
    Guide,
    Keypoints,
    Plan,
    Recipe,
    Request,
    Sampler,
    Stage,
    plan,
)
from sosie.core.errors import BadModelError, EngineError
from sosie.core.plan import asset_names, without_guides
from sosie.core.sight import Sight
from sosie.diffusion.samplers import SAMPLERS
from sosie.faces.detect import Detector, Face
from sosie.families.contract.draws import Settings, StageInput, StageOutput

pytestmark = pytest.mark.local
Sosie = Callable[..., Any]


@pytest.fixture(scope="module")
def model() -> Path:
    """The embedded model as a stock diffusers folder."""
    import sosie_mini

    return sosie_mini.folder()


class KnownFaces:
    """Answers what stages ask about faces: a random face a name, and YuNet's detections."""

    def embedding(self, _guide: Guide, plan: Plan) -> np.ndarray[Any, np.dtype[np.float32]]:
        vector = np.random.default_rng(len(plan.character.name)).normal(size=256).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def crops(self, _guide: Guide, _plan: Plan) -> list[Image.Image]:
        return []

    def find(self, image: Image.Image, plan: Plan, _stage: Stage) -> Face | Finding:
        faces = Detector().detect(np.asarray(image))
        return faces[0] if faces else Finding("SOS-E020", "warning", plan.character.name, "no face was found")


@pytest.fixture(scope="module")
def runner() -> Iterator[Any]:
    """One runner for the module: the weights are loaded once a set of guides."""
    from sosie.families.sdxl.on_diffusers import Runner

    made = Runner("cpu", Settings())
    yield made
    made.close()


GUIDE = Guide("faceid", "mini:ip-adapter/ip-adapter-faceid_mini.safetensors", "mini:id_encoder.onnx")
MIRA = Character("mira", "fictional", True, "a young woman")


def recipe(sampler: Sampler, guided: bool = True) -> Recipe:
    stage = Stage("generate", "sdxl", "mini", sampler=sampler, guides=(GUIDE,))
    made = Recipe("t", (stage,), "portrait of {description}, {prompt}", 256, 256)
    return made if guided else without_guides(made)


def run_stage(
    runner: Any,
    model: Path,
    recipe: Recipe,
    name: str = "mira",
    source: Image.Image | None = None,
    see: Callable[[StageInput], StageInput] | None = None,
) -> tuple[StageOutput, list[tuple[int, int]]]:
    planned = plan(
        recipe,
        replace(MIRA, name=name),
        Request("t", name, "smiling", source="f" * 64 if source else ""),
        Draw(),
        dict.fromkeys(asset_names(recipe.stages), ""),
    )
    paths = {name: model / name.partition(":")[2] for name in asset_names(recipe.stages)}
    steps: list[tuple[int, int]] = []
    given = StageInput(
        planned.stages[0], planned, 0, source, paths, KnownFaces(), lambda done, total: steps.append((done, total))
    )
    return runner.run(see(given) if see else given), steps


def draw(runner: Any, model: Path, recipe: Recipe, name: str = "mira") -> np.ndarray[Any, np.dtype[np.uint8]]:
    output, steps = run_stage(runner, model, recipe, name)
    count = steps[-1][1]
    assert steps == [(step + 1, count) for step in range(count)]
    assert count >= recipe.stages[0].sampler.steps
    return np.asarray(output.image)


def test_what_is_seen_at_the_end_is_the_picture_small_and_looking_changes_nothing(runner: Any, model: Path) -> None:
    wanted = recipe(Sampler("euler", "model", 6, 3.5))
    seen: list[list[Sight]] = []

    def see(given: StageInput) -> StageInput:
        looking, taken = watched(given)
        seen.append(taken)
        return looking

    looked, _ = run_stage(runner, model, wanted, see=see)
    picture = draw(runner, model, wanted)
    np.testing.assert_array_equal(np.asarray(looked.image), picture)
    (sights,) = seen
    assert len(sights) == 6
    last = sights[-1].image
    small = np.asarray(looked.image.resize(last.size, Image.Resampling.BOX), dtype=float)
    alike = np.corrcoef(np.asarray(last, dtype=float).ravel(), small.ravel())[0, 1]
    assert alike > 0.9


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_draws_a_picture(runner: Any, model: Path, name: str) -> None:
    assert draw(runner, model, recipe(Sampler(name, "model", 6, 3.5))).std() > 20


def test_the_face_guide_changes_the_picture_with_the_face(runner: Any, model: Path) -> None:
    one, other = (draw(runner, model, recipe(Sampler("euler", "model", 6, 3.5)), name) for name in ("mira", "an other"))
    assert np.abs(one.astype(int) - other.astype(int)).mean() > 3


def test_without_guidance_and_without_a_guide_it_draws_too(runner: Any, model: Path) -> None:
    guided = draw(runner, model, recipe(Sampler("euler", "model", 6, 1.0)))
    plain = draw(runner, model, recipe(Sampler("euler", "model", 6, 1.0), guided=False))
    assert guided.std() > 20
    assert plain.std() > 20
    assert not np.array_equal(guided, plain)


def test_noise_as_comfyui_draws_it_differs_where_steps_add_noise_alone(runner: Any, model: Path) -> None:
    def pictures(name: str) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
        samplers = (Sampler(name, "sgm_uniform", 4, 3.5), Sampler(name, "sgm_uniform", 4, 3.5, noise="comfy"))
        return [draw(runner, model, recipe(sampler)) for sampler in samplers]

    np.testing.assert_array_equal(*pictures("euler"))  # in fp32 both manners start alike
    for name in ("euler_a", "dpmpp_2m_sde", "dpmpp_sde"):
        own, comfys = pictures(name)
        assert comfys.std() > 20
        assert not np.array_equal(own, comfys)


FACE_PASS = Stage(
    "detail",
    "sdxl",
    "mini",
    sampler=Sampler("euler", "model", 6, 3.5, denoise=0.6),
    guides=(replace(GUIDE, kind="instantid", keypoints=Keypoints("mini:controlnet", stick=4.0, radius=4.5)),),
    detail=Detail(size=256, margin=1.8, seam=50.0),  # faces of nobody: a seam is no fault of the pass here
)


def detailed(**changes: Any) -> Recipe:
    return Recipe("t", (replace(FACE_PASS, **changes),), "portrait of {description}, {prompt}", 256, 256)


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """A reference of the example character, at the model's own scale, in an odd-sized picture."""
    with Image.open(EXAMPLES / "00.jpg") as image:
        small = image.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (301, 333), (90, 110, 130))
    canvas.paste(small, (20, 51))
    return canvas


def test_a_face_pass_draws_the_face_anew_and_nothing_else(runner: Any, model: Path, portrait: Image.Image) -> None:
    output, steps = run_stage(runner, model, detailed(), "an other", portrait)
    assert not output.findings
    before, after = np.asarray(portrait).astype(int), np.asarray(output.image).astype(int)
    assert after.shape == before.shape
    changed = np.abs(after - before).max(axis=2) > 0
    face = Detector().detect(np.asarray(portrait))[0]
    x, y, w, h = (round(value) for value in face.box)
    assert changed[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4].mean() > 0.9
    around = np.ones_like(changed)
    around[max(0, y - h // 2) : y + h + h // 2, max(0, x - w // 2) : x + w + w // 2] = False
    assert not changed[around].any()
    assert 0 <= dict(output.measures)["seam"] <= 50.0
    assert len(steps) == 3  # 0.6 of 6 steps, cut to whole ones


def test_another_face_gives_another_picture_of_it(runner: Any, model: Path, portrait: Image.Image) -> None:
    one, other = (np.asarray(run_stage(runner, model, detailed(), name, portrait)[0].image) for name in ("a", "bc"))
    assert np.abs(one.astype(int) - other.astype(int)).max() > 20


def test_a_new_face_with_a_visible_seam_is_refused_and_the_picture_kept(
    runner: Any, model: Path, portrait: Image.Image
) -> None:
    output, _ = run_stage(runner, model, detailed(detail=replace(FACE_PASS.detail, seam=0.0)), "bc", portrait)
    assert [(f.code, f.severity) for f in output.findings] == [("SOS-E024", "error")]
    assert output.image.tobytes() == portrait.tobytes()


def test_a_picture_without_a_face_is_left_alone_with_a_finding(runner: Any, model: Path) -> None:
    empty = Image.new("RGB", (256, 256), (120, 130, 140))
    output, steps = run_stage(runner, model, detailed(), "mira", empty)
    assert [(f.code, f.severity) for f in output.findings] == [("SOS-E020", "warning")]
    assert output.image.tobytes() == empty.tobytes()
    assert steps == []


def test_a_refine_stage_stays_near_its_picture(runner: Any, model: Path, portrait: Image.Image) -> None:
    refine = replace(FACE_PASS, kind="refine", guides=(GUIDE,), sampler=replace(FACE_PASS.sampler, denoise=0.3))
    output, _ = run_stage(runner, model, Recipe("t", (refine,), "{prompt}", 256, 256), "mira", portrait)
    before, after = np.asarray(portrait).astype(int), np.asarray(output.image).astype(int)
    assert after.shape == before.shape
    assert 0.5 < np.abs(after - before).mean() < 25


def test_a_vae_that_overflows_is_used_again_in_fp32_and_the_finding_says_so(
    runner: Any, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16, with a decoder that gives NaN in bf16 alone, as SDXL's does in fp16."""
    torch: Any = importlib.import_module("torch")
    low = recipe(Sampler("euler", "model", 2, 1.0), guided=False)
    low = replace(low, stages=(replace(low.stages[0], precision="bf16"),))
    run_stage(runner, model, low)
    vae = runner._pipelines.vae
    stock = vae.decode

    def overflowing(latents: Any, **arguments: Any) -> Any:
        (pixels,) = stock(latents, **arguments)
        return (pixels * float("nan") if pixels.dtype == torch.bfloat16 else pixels,)

    monkeypatch.setattr(vae, "decode", overflowing)
    output, _ = run_stage(runner, model, low)
    assert [(f.code, f.severity) for f in output.findings] == [("SOS-E026", "warning")]
    assert np.asarray(output.image).std() > 10
    monkeypatch.setattr(vae, "decode", lambda latents, **_: (stock(latents)[0] * float("nan"),))
    with pytest.raises(EngineError, match="NaN or infinity"):
        run_stage(runner, model, low)


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


def weak_recipe(workspace: Path, steps: int = 8) -> None:
    """`mini` without a guide in the body, so that its face alone fails; the repair is the shipped one."""
    import tomllib

    from sosie.workspace.recipes import find_recipe
    from sosie.workspace.workspace import open_workspace

    text = find_recipe(open_workspace(workspace), "mini").path.read_text(encoding="utf-8")
    head, guide = text.split("[[stages.guides]]")
    weak = head.replace('name = "mini"', 'name = "weak"', 1) + "[[repair]]" + guide.partition("[[repair]]")[2]
    weak = weak.replace("steps = 20", f"steps = {steps}")
    assert not tomllib.loads(weak)["stages"][0].get("guides")
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes/weak.toml").write_text(weak, encoding="utf-8")


def test_a_face_that_fails_alone_is_repaired_before_another_picture_is_drawn(sosie: Sosie, workspace: Path) -> None:
    weak_recipe(workspace)
    command = ("generate", "mira", "smiling, soft daylight, forest background", "--recipe", "weak", "--attempts", 4)
    result = sosie(*command, "--seed", 7, "--json", "--workspace", workspace)
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert lines[0]["path"] == "generate"
    to_mend = [line for line in lines if line["verdict"] == "repair"]
    assert to_mend, result.out
    for line in to_mend:
        following = next(other for other in lines if other["parent"] == line["plan"])
        assert following["path"] == "repair"
        sface = [entry["scores"]["identity"][0]["value"] for entry in (line, following)]
        refused = any("was refused" in reason for reason in following["reasons"])
        assert sface[1] == sface[0] if refused else sface[1] > sface[0]
        assert following["measures"]["detail.seam"] >= 0


def test_a_given_picture_keeps_its_size_and_the_store_answers_the_second_time(
    sosie: Sosie, workspace: Path, portrait: Image.Image, tmp_path: Path
) -> None:
    weak_recipe(workspace, 4)
    portrait.save(tmp_path / "given.png")
    command = ("generate", "mira", "smiling", "--recipe", "weak", "--from", tmp_path / "given.png", "--json")
    lines = [
        json.loads(line)
        for _ in range(2)
        for line in sosie(*command, "--stages", "detail", "--attempts", 1, "--workspace", workspace).out.splitlines()
    ]
    assert lines[0]["path"] == "given"
    assert (lines[0]["plan"], lines[0]["scores"]) == (lines[1]["plan"], lines[1]["scores"])
    assert lines[0]["seconds"] == lines[1]["seconds"]
    with Image.open(lines[0]["image"]) as image:
        assert image.size == portrait.size
    refused = sosie(*command, "--stages", "detail,upscale", "--workspace", workspace)
    assert refused.code == 2
    assert "no stage 'upscale'" in refused.err


def test_in_fp16_the_vae_works_in_fp32(model: Path) -> None:
    """SDXL's own overflows in fp16; so no recipe can make a picture black by asking for it."""
    pipeline: Any = importlib.import_module("sosie.families.sdxl.diffusers.pipeline")
    torch: Any = importlib.import_module("torch")
    loaded = pipeline._load(model, None, torch.float16)
    assert loaded.unet.dtype == torch.float16
    assert loaded.vae.dtype == torch.float32
