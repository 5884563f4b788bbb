"""Recipes before they run: every file suits its place, settings suit the variant, guides can work, licences add up."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from header_files import FACEID_PLUS, INSTANTID, lora, model, write
from places import ROOT

from sosie.core import Character, CharacterLora, Finding, Guide, Recipe, Request
from sosie.core.errors import ConfigError, NotFoundError, UsageError
from sosie.core.plan import needed_stages
from sosie.doctor import recipes
from sosie.files.safetensors import read_header
from sosie.workspace.bill import resolve, resolve_one
from sosie.workspace.known import fingerprint, remember
from sosie.workspace.library import find_model, installed_models
from sosie.workspace.recipes import list_recipes, load_recipe, read_recipe
from sosie.workspace.workspace import Config, Workspace, open_workspace

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("unprobed")]

Sosie = Callable[..., Any]

SHIPPED = (
    *("hybrid", "klein", "klein-edit", "mini", "mini-full", "mini-hybrid", "mini-z", "sdxl-instantid", "zimage"),
    *("zimage-klein", "zimage-turbo"),
)


@pytest.fixture
def zimage(tmp_path: Path) -> Workspace:
    """A workspace with the files of both Z-Image recipes."""
    models = tmp_path / "models"
    for name in ("z_image_bf16", "z_image_turbo_bf16"):
        model(models / f"{name}.safetensors", "zimage-single")
    model(models / "qwen_3_4b.safetensors", "qwen3-4b")
    model(models / "ae.safetensors", "vae-16-single")
    return open_workspace(tmp_path)


@pytest.fixture
def sdxl(tmp_path: Path) -> Workspace:
    """A workspace with the files of `sdxl-instantid`; the checkpoint is the user's own, named in sosie.toml."""
    models = tmp_path / "models"
    model(tmp_path / "elsewhere" / "biglove-xl.safetensors", "sdxl-checkpoint")
    write(models / "ip-adapter-faceid-plusv2_sdxl.safetensors", FACEID_PLUS)
    write(models / "ip-adapter-faceid-plusv2_sdxl_lora.safetensors", {"0.to_q_lora.down.weight": ("F16", [128, 320])})
    model(models / "clip_vision" / "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", "clip-h-vision")
    write(models / "instantid" / "ip-adapter.safetensors", INSTANTID)
    control = models / "instantid" / "ControlNetModel"
    model(control / "diffusion_pytorch_model.safetensors", "sdxl-controlnet")
    (control / "config.json").write_text("{}")
    for name in ("antelopev2/glintr100", "buffalo_l/w600k_r50"):
        path = models / "insightface" / "models" / f"{name}.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    model(models / "upscale_models" / "4x-UltraSharp.safetensors", "esrgan-4x-old")
    (tmp_path / "sosie.toml").write_text('[models]\nsdxl = "elsewhere/biglove-xl.safetensors"\n')
    return open_workspace(tmp_path)


def located(workspace: Workspace, name: str) -> Path:
    return resolve_one(workspace, name).located


def check_recipe(
    workspace: Workspace, recipe: Recipe, character: Character | None = None, request: Request | None = None
) -> list[Finding]:
    """What the doctor says of a recipe in a workspace."""
    return recipes.check_recipe(recipe, resolve(workspace, needed_stages(recipe, character, request), character))


def told(findings: list[Finding]) -> list[str]:
    """The codes of warnings and errors."""
    return [finding.code for finding in findings if finding.severity != "info"]


def the(findings: list[Finding], code: str) -> Finding:
    found = [finding for finding in findings if finding.code == code]
    assert len(found) == 1, [(finding.code, finding.message) for finding in findings]
    return found[0]


def changed(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with other values in its first stage; those of `sampler_` go to its sampler."""
    sampler = {key.removeprefix("sampler_"): value for key, value in values.items() if key.startswith("sampler_")}
    stage = replace(recipe.stages[0], **{k: v for k, v in values.items() if not k.startswith("sampler_")})
    stage = replace(stage, sampler=replace(stage.sampler, **sampler))
    return replace(recipe, stages=(stage, *recipe.stages[1:]))


# The recipes as shipped


def test_every_shipped_recipe_can_be_read(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    assert tuple(sorted(list_recipes(workspace))) == SHIPPED
    kinds = {name: [stage.kind for stage in load_recipe(workspace, name).stages] for name in SHIPPED}
    assert kinds["sdxl-instantid"] == ["generate", "detail", "upscale"]
    assert kinds["mini-full"] == kinds["sdxl-instantid"]
    assert kinds["hybrid"] == ["generate", "detail"]
    hybrid = load_recipe(workspace, "hybrid")
    assert [stage.family for stage in hybrid.stages] == ["zimage", "sdxl"]


def test_the_files_of_shipped_recipes_are_named_once_and_as_the_stages_name_them(tmp_path: Path) -> None:
    from sosie.core.plan import asset_names

    for name in ("hybrid", "klein", "klein-edit", "sdxl-instantid", "zimage", "zimage-klein", "zimage-turbo"):
        recipe = load_recipe(open_workspace(tmp_path), name)
        assert sorted(file.name for file in recipe.files) == sorted(asset_names(needed_stages(recipe))), name
        for file in recipe.files:
            assert not file.source or re.fullmatch(r"hf:[\w.-]+/[\w.-]+:[\w./-]+", file.source), file.source
            assert file.licence


def test_a_repair_is_the_detail_stage_with_the_guide_at_a_higher_weight(tmp_path: Path) -> None:
    for name in ("sdxl-instantid", "hybrid", "mini-full"):
        recipe = load_recipe(open_workspace(tmp_path), name)
        first = next(stage for stage in recipe.stages if stage.kind == "detail")
        again = recipe.repair[0]
        assert again.guides[0].scale == 1.0 > first.guides[0].scale
        assert replace(again.guides[0], scale=0) == replace(first.guides[0], scale=0)
        assert (again.model, again.detail) == (first.model, first.detail)
    mini, full = (load_recipe(open_workspace(tmp_path), name) for name in ("mini", "mini-full"))
    assert mini.repair == full.repair


def test_the_shipped_sdxl_recipe_gives_no_warning_when_its_files_are_there(sdxl: Workspace) -> None:
    recipe = load_recipe(sdxl, "sdxl-instantid")
    findings = check_recipe(sdxl, recipe)
    assert told(findings) == []
    assert (recipe.width * 4, recipe.height * 4) == (4096, 6144)


def test_the_shipped_zimage_recipes_give_no_warning_when_their_files_are_there(zimage: Workspace) -> None:
    for name in ("zimage", "zimage-turbo"):
        assert told(check_recipe(zimage, load_recipe(zimage, name))) == [], name


def test_the_klein_recipes_give_no_warning_and_their_images_may_be_sold(zimage: Workspace) -> None:
    models = zimage.root / "models"
    model(models / "flux-2-klein-4b.safetensors", "flux2-klein-4b")
    model(models / "flux2-vae.safetensors", "vae-flux2")
    for name in ("klein", "klein-edit", "zimage-klein"):
        findings = check_recipe(zimage, load_recipe(zimage, name))
        assert told(findings) == [], name
        assert the(findings, "SOS-R040").message.startswith("images may be sold; licences: Apache-2.0 ("), name


def test_a_recipe_for_sale_is_refused_with_a_file_under_non_commercial_terms(zimage: Workspace) -> None:
    recipe = load_recipe(zimage, "klein")
    files = tuple(
        replace(file, licence="FLUX non-commercial licence", commercial="no") if file.role == "denoiser" else file
        for file in recipe.files
    )
    nine = replace(recipe, files=files)
    said = the(check_recipe(zimage, nine), "SOS-R041").message
    assert said == "recipe 'klein' is marked for_sale, and 'flux-2-klein-4b' is under FLUX non-commercial licence"
    codes = {finding.code for finding in check_recipe(zimage, replace(nine, for_sale=False))}
    assert "SOS-R041" not in codes
    assert "SOS-R040" in codes


@pytest.mark.local
def test_mini_gives_no_warning_and_its_images_may_be_sold(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    findings = check_recipe(workspace, load_recipe(workspace, "mini"))
    assert told(findings) == []
    assert the(findings, "SOS-R040").message.startswith("images may be sold; licences: CC0-1.0 (mini, ")


# Files: there, and what they are


def test_a_missing_file_says_where_it_comes_from_and_a_missing_checkpoint_how_to_name_ones_own(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    recipe = load_recipe(workspace, "sdxl-instantid")
    missing = {f.message: f.hint for f in check_recipe(workspace, recipe) if f.code == "SOS-R002"}
    own = next(hint for message, hint in missing.items() if "'sdxl'" in message)
    assert 'under [models]: sdxl = "PATH"' in own
    other = next(hint for message, hint in missing.items() if "4x-UltraSharp" in message)
    assert "hf:lokCX/4x-Ultrasharp:4x-UltraSharp.pth" in other
    assert "sosie model fetch sdxl-instantid" in other


def test_a_lora_in_the_place_of_the_model_is_said_to_be_one(zimage: Workspace) -> None:
    lora(zimage.models / "elena.safetensors")
    recipe = changed(load_recipe(zimage, "zimage"), model="elena")
    finding = the(check_recipe(zimage, recipe), "SOS-R010")
    assert finding.severity == "error"
    assert "'elena' is a LoRA of family zimage" in finding.message


def test_a_model_of_another_family_than_the_stages_is_an_error(zimage: Workspace) -> None:
    model(zimage.models / "flux.safetensors", "flux1-dev-single")
    finding = the(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), model="flux")), "SOS-R010")
    assert "family flux1" in finding.message
    assert "expected pipeline or checkpoint or denoiser of family zimage" in finding.message


def test_a_clip_encoder_for_zimage_is_an_error_that_names_the_right_one(zimage: Workspace) -> None:
    model(zimage.models / "clip_l.safetensors", "clip-l")
    finding = the(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), text_encoder="clip_l")), "SOS-R011")
    assert "text encoder 'clip_l' is CLIP-L; Z-Image Base takes 4B (Qwen3)" in finding.message
    assert "qwen_3_4b.safetensors" in finding.hint
    model(zimage.models / "qwen_0.safetensors", "qwen3-0.6b")
    small = check_recipe(zimage, changed(load_recipe(zimage, "zimage"), text_encoder="qwen_0"))
    assert "0.6B" in the(small, "SOS-R011").message


def test_a_vae_of_four_channels_for_zimage_is_an_error(zimage: Workspace) -> None:
    model(zimage.models / "sdxl_vae.safetensors", "vae-4-single")
    finding = the(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), vae="sdxl_vae")), "SOS-R012")
    assert "VAE 'sdxl_vae' is for 4 channels" in finding.message
    assert finding.message.endswith("; latents of Z-Image Base have 16 channels")


def test_a_denoiser_without_encoder_and_vae_is_told_what_to_name(zimage: Workspace) -> None:
    findings = check_recipe(zimage, changed(load_recipe(zimage, "zimage"), text_encoder="", vae=""))
    assert [f.hint for f in findings if f.code == "SOS-R013"] == [
        "name one: qwen_3_4b.safetensors",
        "name one: ae.safetensors (FLUX.1's)",
    ]


@pytest.mark.parametrize("name", ["zimage-dfloat11", "zimage-fp8-scaled"])
def test_a_packed_file_that_is_read_here_is_nothing_to_tell(zimage: Workspace, name: str) -> None:
    model(zimage.models / "z_image_packed.safetensors", name)
    findings = check_recipe(zimage, changed(load_recipe(zimage, "zimage"), model="z_image_packed"))
    assert not {"SOS-F103", "SOS-F104"} & {finding.code for finding in findings}


def test_a_packed_file_that_is_not_read_here_is_one_error_with_the_way_out(
    zimage: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "comfy_kitchen" else found(name))
    model(zimage.models / "z_image_packed.safetensors", "zimage-nvfp4")
    findings = check_recipe(zimage, changed(load_recipe(zimage, "zimage"), model="z_image_packed"))
    finding = the(findings, "SOS-F104")
    assert finding.severity == "error"
    assert "NVFP4 (4 bits, a scale for each 16), which is not read here" in finding.message
    assert finding.hint.startswith("pip install 'sosie[kitchen]', or take z_image_bf16.safetensors")
    assert "SOS-F103" not in {finding.code for finding in findings}


def test_an_adapter_in_the_place_of_another_is_an_error(sdxl: Workspace) -> None:
    write(sdxl.models / "instantid" / "ip-adapter.safetensors", FACEID_PLUS)
    findings = check_recipe(sdxl, load_recipe(sdxl, "sdxl-instantid"))
    assert {f.code for f in findings if f.severity == "error"} == {"SOS-R010"}
    assert "faceid-plus), expected instantid of family sdxl" in findings[0].message


# LoRAs


def character(trained_on: str = "", family: str = "zimage") -> Character:
    own = CharacterLora("loras/own.safetensors", family, "0" * 64, trained_on=trained_on)
    return Character("elena", "fictional", True, loras=(own,))


def test_the_characters_lora_is_checked_against_the_model_and_its_tensors_are_counted(zimage: Workspace) -> None:
    lora(zimage.root / "characters" / "elena" / "loras" / "own.safetensors")
    findings = check_recipe(zimage, load_recipe(zimage, "zimage"), character(), Request("zimage", "elena"))
    assert told(findings) == []
    assert "240 of 240 tensors match" in the(findings, "SOS-L005").message


@pytest.mark.parametrize(
    ("trained_on", "recipe", "warned"),
    [("De-Turbo", "zimage", True), ("De-Turbo", "zimage-turbo", False), ("base", "zimage-turbo", True)],
)
def test_a_lora_of_another_variant_is_a_warning(zimage: Workspace, trained_on: str, recipe: str, warned: bool) -> None:
    lora(zimage.root / "characters" / "elena" / "loras" / "own.safetensors")
    findings = check_recipe(zimage, load_recipe(zimage, recipe), character(trained_on), Request(recipe, "elena"))
    assert ("SOS-L020" in told(findings)) is warned


def test_a_lora_of_another_family_is_an_error_before_it_silently_does_nothing(sdxl: Workspace) -> None:
    lora(sdxl.root / "characters" / "elena" / "loras" / "own.safetensors")
    recipe = load_recipe(sdxl, "sdxl-instantid")
    findings = check_recipe(sdxl, recipe, character(family="sdxl"), Request(recipe.name, "elena"))
    found = [finding for finding in findings if finding.code == "SOS-R014"]
    assert {finding.message.split(":")[0] for finding in found} == {"stage generate", "stage detail", "repair detail"}
    assert "is for zimage, the stage draws with sdxl" in found[0].message


# Sampling


@pytest.mark.parametrize(
    ("name", "steps", "cfg", "codes"),
    [
        ("zimage", 20, 3.0, []),
        ("zimage", 50, 6.0, []),
        ("zimage", 19, 4.0, ["SOS-R020"]),
        ("zimage", 51, 4.0, ["SOS-R020"]),
        ("zimage", 25, 2.9, ["SOS-R021"]),
        ("zimage", 8, 1.0, ["SOS-R020", "SOS-R021"]),
        ("zimage-turbo", 6, 1.0, []),
        ("zimage-turbo", 9, 3.0, []),
        ("zimage-turbo", 5, 1.0, ["SOS-R020"]),
        ("zimage-turbo", 10, 1.0, ["SOS-R020"]),
        ("zimage-turbo", 25, 4.0, ["SOS-R020", "SOS-R021"]),
    ],
)
def test_steps_and_cfg_are_judged_by_the_variant(
    zimage: Workspace, name: str, steps: int, cfg: float, codes: list[str]
) -> None:
    recipe = changed(load_recipe(zimage, name), sampler_steps=steps, sampler_cfg=cfg)
    assert told(check_recipe(zimage, recipe)) == codes


def test_what_the_user_said_of_a_variant_wins_over_the_files_name(zimage: Workspace) -> None:
    path = zimage.models / "z_image_bf16.safetensors"
    header = read_header(path)
    recipe = load_recipe(zimage, "zimage")
    assert told(check_recipe(zimage, recipe)) == []
    remember(zimage.known_table, "zimage", fingerprint(path, header, "layers.28.ffn_norm1.weight"), "Turbo")
    assert told(check_recipe(zimage, recipe)) == ["SOS-R020", "SOS-R021"]


def test_a_variant_that_nobody_knows_may_have_the_settings_of_any(zimage: Workspace) -> None:
    shutil.move(zimage.models / "z_image_bf16.safetensors", zimage.models / "mine.safetensors")
    recipe = changed(load_recipe(zimage, "zimage"), model="mine")
    assert told(check_recipe(zimage, recipe)) == []
    assert told(check_recipe(zimage, changed(recipe, sampler_steps=8, sampler_cfg=1.0))) == []
    finding = the(check_recipe(zimage, changed(recipe, sampler_steps=14)), "SOS-R020")
    assert "20 to 50 (Z-Image Base) or 6 to 9 (Z-Image Turbo)" in finding.message
    assert "sosie model add" in finding.hint


def test_steps_of_a_pass_over_an_image_are_not_judged(zimage: Workspace) -> None:
    recipe = changed(load_recipe(zimage, "zimage-turbo"), sampler_steps=5, sampler_denoise=0.33)
    assert told(check_recipe(zimage, recipe)) == []


def test_a_shift_left_at_the_nodes_default_is_a_warning(zimage: Workspace) -> None:
    finding = the(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), sampler_shift=1.73)), "SOS-R022")
    assert "1.73" in finding.message
    assert "3 built in" in finding.message
    for free in (0.0, 3.0, 6.0):
        assert told(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), sampler_shift=free))) == []


def test_fp16_for_zimage_is_an_error_with_the_reason(zimage: Workspace, sdxl: Workspace) -> None:
    finding = the(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), precision="fp16")), "SOS-T040")
    assert (finding.severity, finding.subject) == ("error", "zimage")
    assert "344,064" in finding.message


# Guides


def test_a_face_guide_on_zimage_is_refused_and_lora_and_hybrid_are_offered(zimage: Workspace) -> None:
    guide = Guide("faceid", "adapter", "encoder")
    finding = the(check_recipe(zimage, changed(load_recipe(zimage, "zimage"), guides=(guide,))), "SOS-R031")
    assert finding.severity == "error"
    assert "nobody is known to have trained a face adapter for Z-Image (November 2026)" in finding.message
    assert "LoRA" in finding.hint
    assert "recipe hybrid" in finding.hint


def test_two_guides_near_full_weight_in_one_stage_are_a_warning_and_in_two_stages_none(sdxl: Workspace) -> None:
    recipe = load_recipe(sdxl, "sdxl-instantid")
    faceid, instantid = recipe.stages[0].guides[0], recipe.stages[1].guides[0]
    both = changed(recipe, guides=(faceid, instantid))
    finding = the(check_recipe(sdxl, both), "SOS-R032")
    assert finding.severity == "warning"
    assert "stage generate: faceid-plus-v2 0.85 and instantid 0.85" in finding.message
    weak = changed(recipe, guides=(replace(faceid, scale=0.5), instantid))
    assert "SOS-R032" not in told(check_recipe(sdxl, weak))


def test_a_guide_that_is_fed_by_the_other_face_encoder_is_an_error(sdxl: Workspace) -> None:
    recipe = load_recipe(sdxl, "sdxl-instantid")
    wrong = replace(recipe.stages[0].guides[0], encoder="glintr100")
    finding = the(check_recipe(sdxl, changed(recipe, guides=(wrong,))), "SOS-R033")
    assert "trained with w600k_r50 of buffalo_l" in finding.message
    path = "models/insightface/models/antelopev2/glintr100.onnx"
    assert "SOS-R033" in told(check_recipe(sdxl, changed(recipe, guides=(replace(wrong, encoder=path),))))


# Licences


def test_licences_are_one_line_and_the_strictest_part_decides(sdxl: Workspace, zimage: Workspace) -> None:
    line = the(check_recipe(sdxl, load_recipe(sdxl, "sdxl-instantid")), "SOS-R040")
    assert line.severity == "info"
    assert line.message.startswith("images may not be sold because of ip-adapter-faceid-plusv2_sdxl, w600k_r50")
    assert "non-commercial research (InsightFace) (w600k_r50, glintr100)" in line.message
    assert "\n" not in line.message
    free = the(check_recipe(zimage, load_recipe(zimage, "zimage")), "SOS-R040")
    assert free.message == "images may be sold; licences: Apache-2.0 (z_image_bf16, qwen_3_4b, ae)"


def test_a_part_that_nobody_speaks_of_makes_the_answer_unclear(zimage: Workspace) -> None:
    recipe = load_recipe(zimage, "zimage")
    silent = replace(recipe, files=recipe.files[1:])
    line = the(check_recipe(zimage, silent), "SOS-R040")
    assert line.message.startswith("whether images may be sold is not clear because of z_image_bf16;")
    assert "not stated (z_image_bf16)" in line.message


# Names of models


def test_a_model_is_found_by_its_name_with_or_without_ending_anywhere_in_the_model_folders(tmp_path: Path) -> None:
    comfy = tmp_path / "ComfyUI" / "models"
    file = write(comfy / "checkpoints" / "sdxl" / "big.love.safetensors", INSTANTID)
    workspace = Workspace(tmp_path, Config(model_folders=("ComfyUI/models",)))
    assert located(workspace, "big.love.safetensors") == file
    assert located(workspace, "big.love") == file
    assert installed_models(workspace)["big.love"].source == "ComfyUI/models"
    with pytest.raises(NotFoundError, match=r"did you mean 'big\.love'"):
        located(workspace, "big.lov")


def test_a_name_that_means_two_different_files_is_an_error_that_lists_them(tmp_path: Path) -> None:
    one = write(tmp_path / "models" / "a" / "x.safetensors", INSTANTID)
    other = write(tmp_path / "models" / "b" / "x.safetensors", INSTANTID)
    workspace = open_workspace(tmp_path)
    assert located(workspace, "x") == one
    with other.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(UsageError, match="2 files of different content") as error:
        located(workspace, "x")
    assert str(one) in error.value.message
    assert str(other) in error.value.message
    recipe = changed(load_recipe(workspace, "zimage"), model="x")
    assert "SOS-R004" in told(check_recipe(workspace, recipe))


def test_a_converted_file_wins_over_the_pickle_that_it_was_made_of(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "up.pth").write_bytes(b"pickle")
    workspace = open_workspace(tmp_path)
    assert located(workspace, "up").suffix == ".pth"
    write(tmp_path / "models" / "up.safetensors", INSTANTID)
    assert located(workspace, "up").suffix == ".safetensors"
    assert located(workspace, "up.pth").suffix == ".pth"
    assert list(installed_models(workspace)["up"].locate().suffixes) == [".safetensors"]


def test_a_name_may_mean_a_folder_inside_a_model_but_nothing_outside(tmp_path: Path) -> None:
    inside = tmp_path / "models" / "whole" / "controlnet"
    inside.mkdir(parents=True)
    (tmp_path / "models" / "whole" / "model_index.json").write_text("{}")
    (tmp_path / "models" / "secret").mkdir()
    workspace = open_workspace(tmp_path)
    assert located(workspace, "whole:controlnet") == inside
    for name in ("whole:../secret", "whole:nothing", "whole:"):
        with pytest.raises(NotFoundError):
            located(workspace, name)


def test_a_folder_that_is_one_model_is_one_and_links_in_a_circle_end(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "nets" / "net"
    write(folder / "diffusion_pytorch_model.safetensors", INSTANTID)
    (folder / "config.json").write_text("{}")
    (tmp_path / "models" / "nets" / "again").symlink_to(tmp_path / "models")
    workspace = open_workspace(tmp_path)
    assert "diffusion_pytorch_model" not in installed_models(workspace)
    assert find_model(workspace, "net").locate() == folder


# Ranges


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("denoise = 0.5 ", "denoise = 0.0 ", r"stages\[1\].sampler.denoise = 0"),
        ("steps = 30", "steps = 0", r"stages\[0\].sampler.steps = 0"),
        ("cfg = 4.0", "cfg = 0.5", r"stages\[0\].sampler.cfg = 0.5"),
        ("weight = 0.7", "weight = 7.0", r"stages\[0\].loras\[0\].weight = 7 is not -4 to 4"),
        ("references = 4", "references = 0", r"guides\[0\].references = 0"),
        ("scale = 0.8\n", "scale = 3.0\n", "keypoints.scale = 3"),
        ("stick = 4.0", "stick = 0.0", "keypoints.stick = 0 is not above 0"),
        ("radius = 10.0", "radius = 10.0\nstart = 0.9\nend = 0.2", "keypoints.start = 0.9 is not below end = 0.2"),
        ("margin = 2.0", "margin = 0.5", r"detail.margin = 0.5"),
        ("size = 1024 ", "size = 1001 ", "multiple of 8"),
        ("factor = 4.0", "factor = 40.0", "upscale.factor = 40"),
        ("factor = 4.0", "factor = 4.0\ntile = 64\noverlap = 32", "below half a tile"),
        ('"4x-UltraSharp",\n]', '"glintr100",\n]', "'glintr100' is there 2 times"),
        ('[[repair]]\nlike = "detail"  ', '[[repair]]\nlike = "detail"\nkind = "upscale"', "expected detail or refine"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (ROOT / "recipes" / "sdxl-instantid.toml").read_text()
    assert old in text
    path = tmp_path / "sdxl-instantid.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        read_recipe(path)


def test_a_stages_own_prompt_is_read_as_strictly_as_the_recipes(tmp_path: Path) -> None:
    text = (ROOT / "recipes" / "sdxl-instantid.toml").read_text()
    path = tmp_path / "sdxl-instantid.toml"
    path.write_text(text.replace("close-up photo of {description}", "close-up photo of {descripton}", 1))
    with pytest.raises(ConfigError, match="did you mean 'description'"):
        read_recipe(path)


def test_recipe_check_says_what_is_missing_and_ends_with_1(sosie: Sosie, tmp_path: Path) -> None:
    result = sosie("recipe", "check", "sdxl-instantid", "--json", "--workspace", tmp_path)
    assert result.code == 1
    codes = [finding["code"] for finding in json.loads(result.out)["findings"]]
    assert codes.count("SOS-R002") == 9
    assert codes[-1] == "SOS-R040"
