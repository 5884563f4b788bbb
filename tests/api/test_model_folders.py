"""`sosie model add FOLDER`: what a creator's folder holds, by header, and what of the recipes it fills."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from creators_folder import BIGLOVE, LORA, LORA_Z, PACKED, PLAIN, make, onnx

from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once
Sosie = Callable[..., Any]
RECIPES = ("sdxl-instantid", "zimage", "hybrid")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `models` of a creator's ComfyUI."""
    return make(tmp_path_factory.mktemp("creator") / "ComfyUI" / "models")


@pytest.fixture
def models(kept: Path, tmp_path: Path) -> Path:
    """A copy that a test may change: files of holes, linked."""
    target = tmp_path / "ComfyUI" / "models"
    shutil.copytree(kept, target, copy_function=lambda source, to: Path(to).hardlink_to(source))
    return target


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def added(sosie: Sosie, place: Path, *words: object) -> tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Exit code; files by name, recipes by name, what `sosie.toml` gets."""
    done = sosie("model", "add", *words, "--json", "--workspace", place)
    lines = [json.loads(line) for line in done.out.splitlines()]
    files = {line["name"]: line for line in lines if line["kind"] == "file"}
    recipes = {line["recipe"]: line for line in lines if line["kind"] == "recipe"}
    return done.code, files, recipes, next((line for line in lines if line["kind"] == "config"), {})


def test_a_creators_folder_fills_the_three_recipes(sosie: Sosie, models: Path, place: Path) -> None:
    code, files, recipes, config = added(sosie, place, models)
    assert code == 1  # a file that is packed as DFloat11 is an error
    assert [name for name in RECIPES if not recipes[name]["whole"]] == []
    places = {
        name: {(one["recipe"], one["what"], one["name"]) for one in file["places"]} for name, file in files.items()
    }
    assert ("sdxl-instantid", "model", "sdxl") in places[BIGLOVE]
    assert ("hybrid", "text encoder", "qwen_3_4b") in places["text_encoders/qwen_3_4b_bf16.safetensors"]
    encoders = {"insightface/models/antelopev2/glintr100.onnx", "insightface/models/buffalo_l/w600k_r50.onnx"}
    assert {name for name, file in files.items() if file["role"] == "face-encoder"} == encoders
    assert ("sdxl-instantid", "instantid's face encoder", "glintr100") in places[min(encoders)]
    assert files["insightface/models/antelopev2/1k3d68.onnx"]["role"] == "network"
    assert places[PACKED] == places[LORA] == places[LORA_Z] == set()
    assert [one["code"] for one in files[PACKED]["findings"] if one["severity"] == "error"] == ["SOS-F103"]
    assert files[LORA]["use"] == f"sosie lora add CHARACTER {models / LORA}"
    assert "InsightFace" in " ".join(config["licences"])
    assert config["licences"]["CC-BY-NC-SA-4.0"] == ["4x-UltraSharp"]
    for name in RECIPES:
        checked = sosie("recipe", "check", name, "--workspace", place)
        assert (checked.code, checked.err) == (0, ""), name
    assert added(sosie, place, models)[3]["models"] == {}


def test_sosie_toml_keeps_what_its_owner_wrote_and_a_dry_run_writes_nothing(
    sosie: Sosie, models: Path, place: Path
) -> None:
    mine = '# my\nmodel_folders = ["other"]  # a disk\n\n[models]\nown = "x"  # own\n\n# a\n[judges.a]\nonnx = "a"\n'
    (place / "sosie.toml").write_text(mine)
    code, _, _, config = added(sosie, place, models, "--dry-run")
    assert (code, config["written"], (place / "sosie.toml").read_text()) == (1, False, mine)
    assert config["models"]["sdxl"] == str(models / BIGLOVE)
    assert added(sosie, place, models)[3]["models"] == config["models"]
    text = (place / "sosie.toml").read_text()
    assert [line for line in mine.splitlines() if line not in text and "model_folders" not in line] == []
    assert tomllib.loads(text)["model_folders"] == ["other", str(models)]
    assert open_workspace(place).config.models == {"own": "x", **config["models"]}


def test_a_folder_in_the_workspace_is_named_from_there_and_its_own_needs_no_name(
    sosie: Sosie, models: Path, place: Path
) -> None:
    models.parent.rename(place / "ComfyUI")
    (place / "ComfyUI" / "custom_nodes").mkdir()
    config = added(sosie, place, place / "ComfyUI")[3]
    assert config["folders"] == ["ComfyUI/models"]
    assert config["models"]["sdxl"] == f"ComfyUI/models/{BIGLOVE}"
    (place / "sosie.toml").unlink()
    (place / "ComfyUI" / "models").rename(place / "models")
    assert added(sosie, place, place / "models")[3]["folders"] == []


def test_between_two_checkpoints_only_the_user_can_choose(sosie: Sosie, models: Path, place: Path) -> None:
    other = models / "checkpoints" / "bigLust_v16.safetensors"
    other.hardlink_to(models / BIGLOVE)
    code, _, recipes, config = added(sosie, place, models)
    assert code == 1
    assert recipes["sdxl-instantid"]["unclear"] == {"sdxl": [str(models / BIGLOVE), str(other)]}
    assert "sdxl" not in config["models"]
    _, _, recipes, config = added(sosie, place, models, "--use", "sdxl=checkpoints/bigLust_v16.safetensors")
    assert (recipes["sdxl-instantid"]["whole"], config["models"]["sdxl"]) == (True, str(other))
    for use, why in (("sdxl", "is not NAME=FILE"), ("sdxl=none", "no such file"), ("sdx=x", "no recipe names a file")):
        done = sosie("model", "add", models, "--use", use, "--workspace", place)
        assert done.code == 2
        assert re.search(why, done.err)


def test_the_wrong_file_under_the_right_name_is_seen_and_the_right_one_is_found(
    sosie: Sosie, models: Path, place: Path
) -> None:
    (models / PLAIN).rename(models / "diffusion_models" / "z-image-base-official.safetensors")
    (models / PACKED).rename(models / PLAIN)
    _, _, recipes, config = added(sosie, place, models)
    assert recipes["zimage"]["whole"]
    assert config["models"]["z_image_bf16"].endswith("z-image-base-official.safetensors")
    (place / "sosie.toml").unlink()
    (models / "diffusion_models" / "z-image-base-official.safetensors").rename(models / "unet.safetensors")
    _, _, recipes, config = added(sosie, place, models)
    assert recipes["zimage"]["unclear"] == {"z_image_bf16": [str(models / "unet.safetensors")]}
    assert "packed as DFloat11" in recipes["zimage"]["wrong"]["z_image_bf16"]
    assert "z_image_bf16" not in config["models"]


def test_headers_decide_and_names_only_among_what_fits(sosie: Sosie, models: Path, place: Path) -> None:
    (models / "vae" / "ae.safetensors").rename(models / "vae" / "something.safetensors")
    wrong = models / "clip_vision" / "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
    (models / "vae" / "ae.safetensors").hardlink_to(wrong)
    pose = models / "controlnet" / "openpose" / "diffusion_pytorch_model.safetensors"
    pose.parent.mkdir()
    pose.hardlink_to(models / "controlnet" / "instantid" / "diffusion_pytorch_model.safetensors")
    other = onnx(models / "insightface" / "models" / "auraface" / "recognition.onnx", 112, 512, 1_000_000)
    _, files, recipes, config = added(sosie, place, models)
    assert recipes["zimage"]["whole"]
    assert config["models"]["ae"] == str(models / "vae" / "something.safetensors")
    controlnet = config["models"]["instantid:ControlNetModel/diffusion_pytorch_model.safetensors"]
    assert controlnet == str(models / "controlnet" / "instantid" / "diffusion_pytorch_model.safetensors")
    assert files[other.relative_to(models).as_posix()]["places"] == []


def test_what_cannot_be_used_is_named_with_its_reason(sosie: Sosie, models: Path, place: Path) -> None:
    (models / "vae" / "page.safetensors").write_text("<!DOCTYPE html><html>")
    (models / "insightface" / "cut.onnx").write_bytes(b"\x08\x07\x3a\xff\xff\x7f")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    (models / "ipadapter" / "lfs.safetensors").write_text(pointer)
    code, files, _, _ = added(sosie, place, models)
    assert code == 1
    assert "web page" in files["vae/page.safetensors"]["what"]
    assert "no ONNX file, or a damaged one" in files["insightface/cut.onnx"]["what"]
    assert "Git LFS" in files["ipadapter/lfs.safetensors"]["what"]
    empty = place / "empty"
    empty.mkdir()
    for words, why in ((("nowhere",), "is not a folder"), ((empty,), "holds no model file")):
        done = sosie("model", "add", *words, "--workspace", place)
        assert (done.code, why in done.err) == (2, True)


@pytest.mark.local
def test_a_pickle_fills_its_place_and_gives_it_to_the_safetensors_that_is_made_of_it(
    sosie: Sosie, models: Path, place: Path
) -> None:
    import torch

    name = "instantid:ip-adapter.safetensors"
    pickled = models / "instantid" / "ip-adapter.bin"
    (models / "instantid" / "ip-adapter.safetensors").unlink()
    parts = {"latents": torch.ones(1, 16, 1280), "proj_in.weight": torch.ones(1280, 512)}
    torch.save({"image_proj": parts, "ip_adapter": {"1.to_k_ip.weight": torch.ones(640, 2048)}}, pickled)
    _, files, recipes, config = added(sosie, place, models)
    assert recipes["sdxl-instantid"]["whole"]
    assert config["models"][name] == str(pickled)
    assert "SOS-K012" in [one["code"] for one in files["instantid/ip-adapter.bin"]["findings"]]
    assert sosie("model", "convert", pickled, "--workspace", place).code == 0
    config = added(sosie, place, models)[3]
    assert config["models"] == {name: str(pickled.with_suffix(".safetensors"))}
    assert open_workspace(place).config.models[name] == config["models"][name]
    assert sosie("recipe", "check", "sdxl-instantid", "--workspace", place).code == 0


def test_the_variant_of_one_model_is_said_as_before(sosie: Sosie, models: Path, place: Path) -> None:
    done = sosie("model", "add", models / PLAIN, "--variant", "Z-Image Base", "--workspace", place)
    assert done.code == 0
    assert done.out.endswith("\tZ-Image Base\n")
    assert not (place / "sosie.toml").exists()
    refused = sosie("model", "add", models / PLAIN, "--variant", "x", "--dry-run", "--workspace", place)
    assert refused.code == 2
