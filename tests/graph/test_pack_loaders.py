"""Loaders and LoRA nodes of packs: what the doctor follows of those that it knows, and says of those it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from header_files import lora, model
from workflow_files import Drawing, Json, api, node

from sosie.core import Finding
from sosie.doctor.workflows import check_graph
from sosie.graph.named_files import named_files
from sosie.graph.read import read_table
from sosie.workspace.workspace import Config, Workspace

pytestmark = pytest.mark.usefixtures("unprobed")


@pytest.fixture
def comfy(tmp_path: Path) -> Workspace:
    """ComfyUI's folder of models with Z-Image and two LoRAs, one of which is for SDXL."""
    models = tmp_path / "models"
    model(models / "unet" / "z_image_bf16.safetensors", "zimage-single")
    model(models / "text_encoders" / "qwen_3_4b.safetensors", "qwen3-4b")
    model(models / "vae" / "ae.safetensors", "vae-16-single")
    lora(models / "loras" / "fits.safetensors", "Tongyi-MAI/Z-Image")
    model(models / "loras" / "other.safetensors", "sdxl-unet")
    return Workspace(tmp_path, Config(model_folders=("models",)))


def check(workspace: Workspace, table: Json) -> list[Finding]:
    return check_graph(workspace, read_table(table, "w.json"), "w.json")


def errors(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings if finding.severity == "error"]


def between(kind: str, **inputs: Any) -> Json:
    """Z-Image with a node between its loader and its sampler."""
    table = api() | {"pack": node(kind, model=["unet", 0], **inputs)}
    table["shift"]["inputs"]["model"] = ["pack", 0]
    return table


ONE = {"on": True, "lora": "fits.safetensors", "strength": 0.8}


@pytest.mark.parametrize(
    ("kind", "inputs", "uses"),
    [
        ("Power Lora Loader (rgthree)", {"lora_1": ONE}, True),
        ("Power Lora Loader (rgthree)", {"lora_1": ONE | {"on": False}}, False),
        ("Power Lora Loader (rgthree)", {"lora_1": ONE | {"strength": 0}}, False),
        ("Lora Loader Stack (rgthree)", {"lora_01": "fits.safetensors", "strength_01": 1.0, "lora_02": "None"}, True),
        ("Lora Loader Stack (rgthree)", {"lora_01": "fits.safetensors", "strength_01": 0.0}, False),
        ("CR Load LoRA", {"switch": "On", "lora_name": "fits.safetensors", "strength_model": 1.0}, True),
        ("CR Load LoRA", {"switch": "Off", "lora_name": "fits.safetensors", "strength_model": 1.0}, False),
        ("NunchakuFluxLoraLoader", {"lora_name": "fits.safetensors", "lora_strength": 1.0}, True),
        ("SomeLoraNode", {"which": "fits.safetensors"}, True),
    ],
)
def test_a_lora_is_found_in_whichever_node_puts_it_on_the_model(
    comfy: Workspace, kind: str, inputs: Json, uses: bool
) -> None:
    findings = check(comfy, between(kind, **inputs))
    assert any(finding.code == "SOS-L005" for finding in findings) == uses
    assert [code for code in errors(findings) if code != "SOS-W003"] == []


def test_a_lora_of_a_stack_is_on_the_model_that_the_stack_is_applied_to(comfy: Workspace) -> None:
    table = between("CR Apply LoRA Stack", clip=["clip", 0], lora_stack=["stack", 0])
    table["stack"] = node("CR LoRA Stack", switch_1="On", lora_name_1="fits.safetensors", model_weight_1=1.0)
    assert any(finding.code == "SOS-L005" for finding in check(comfy, table))


def test_the_editors_file_of_the_power_lora_loader_is_read() -> None:
    d = Drawing()
    d.add(1, "UNETLoader", {}, ["u.safetensors", "default"])
    values = [{}, {"type": "PowerLoraLoaderHeaderWidget"}, ONE | {"strengthTwo": None}, ONE | {"on": False}, {}, ""]
    d.add(2, "Power Lora Loader (rgthree)", {"model": (1, 0, "MODEL")}, values)
    found = read_table(d.file(), "w.json").nodes["2"]
    assert dict(found.inputs)["lora_1"] == ONE
    assert [file.name for file in named_files(found)] == ["fits.safetensors"]
    assert not found.unread


@pytest.mark.parametrize("loader", ["UnetLoaderGGUF", "SomeoneElsesLoader"])
def test_a_loader_that_is_not_core_is_followed_to_its_file(comfy: Workspace, loader: str) -> None:
    table = between("LoraLoaderModelOnly", lora_name="fits.safetensors", strength_model=1.0)
    table["unet"] = node(loader, unet_name="z_image_bf16.safetensors")
    findings = check(comfy, table)
    assert errors(findings) == []
    assert any("match z_image_bf16.safetensors" in finding.message for finding in findings)


def test_nothing_is_said_of_a_model_that_nothing_tells(comfy: Workspace) -> None:
    table = between("LoraLoaderModelOnly", lora_name="fits.safetensors", strength_model=1.0)
    table["unet"] = node("SomeoneElsesLoader", repository="somebody/model")
    assert errors(check(comfy, table)) == []


def test_files_in_the_values_of_an_unknown_class_are_looked_for_and_their_lack_is_no_error(comfy: Workspace) -> None:
    d = Drawing()
    d.add(1, "SomeoneElses", {}, ["ae.safetensors", "gone.safetensors", "a prompt. With safetensors", 3])
    d.add(2, "PreviewImage", {"images": (1, 0, "IMAGE")})
    findings = check(comfy, d.file())
    (missing,) = [finding for finding in findings if finding.code == "SOS-W010"]
    assert (missing.severity, "gone.safetensors" in missing.message) == ("info", True)
