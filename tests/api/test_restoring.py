"""What a picture says of how it was made, as a request: whoever wrote it, and however badly it is meant."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from renders import DIGESTS, MIRA, RECIPE, a_render

from sosie.api.jobs.requests import GenerateJob, read_request
from sosie.api.views.settings import MOST_UNUSED, settings_in, settings_of, settings_of_recipe, traced
from sosie.core import AskedLora, Draw, Request, Sampling, plan
from sosie.provenance.manifest import Claim, write_signed
from sosie.provenance.texts import texts_in
from sosie.store import Store
from sosie.store.gallery import Gallery
from sosie.workspace.workspace import open_workspace

INFOTEXT = (
    "a dog\nNegative prompt: blurred\nSteps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 123, Size: 640x960, "
    "Model: dreamy, Clip skip: 2"
)


def graph(**changes: Any) -> dict[str, Any]:
    """A graph of ComfyUI as it stands in its pictures; `changes` are of the sampling node's inputs."""
    sampling = {"seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "euler_ancestral", "scheduler": "karras"}
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0], "denoise": 1}
    text = {"clip": ["4", 1]}
    nodes = {
        "3": ("KSampler", {**sampling, **links, **changes}),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "mine/dreamy.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 768, "batch_size": 1}),
        "6": ("CLIPTextEncode", {**text, "text": "a <b>cat"}),
        "7": ("CLIPTextEncode", {**text, "text": "blurred"}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"images": ["8", 0], "filename_prefix": "x"}),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


OF_GRAPH = {
    "prompt": "a <b>cat",
    "negative": "blurred",
    "seed": "5",
    "size": "512x768",
    "steps": "20",
    "cfg": "8",
    "sampler": "euler_a",
    "schedule": "karras",
}


def written(folder: Path, kind: str, **texts: str) -> Path:
    """A picture with texts, as A1111 and ComfyUI write them into a file of this kind."""
    image, path = Image.new("RGB", (8, 8)), folder / f"a.{kind}"
    if kind == "png":
        info = PngInfo()
        for name, text in texts.items():
            info.add_text(name, text)
        image.save(path, pnginfo=info)
        return path
    exif = Image.Exif()
    for tag, name in ((0x010F, "prompt"), (0x0110, "workflow")):
        if name in texts:
            exif[tag] = f"{name}:{texts[name]}"
    if "parameters" in texts:
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a1111_s_text_comes_back_and_what_has_no_place_is_said(tmp_path: Path, kind: str) -> None:
    found = settings_in(written(tmp_path, kind, parameters=INFOTEXT))
    assert found is not None
    assert found["how"] == "a1111"
    assert found["asked"] == {
        "prompt": "a dog",
        "negative": "blurred",
        "seed": "123",
        "size": "640x960",
        "steps": "30",
        "cfg": "7",
        "sampler": "DPM++ 2M Karras",
    }
    assert found["unused"] == [["Model", "dreamy"], ["Clip skip", "2"]]


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("name", ["prompt", "workflow"])
def test_a_graph_of_comfyui_comes_back(tmp_path: Path, kind: str, name: str) -> None:
    found = settings_in(written(tmp_path, kind, **{name: json.dumps(graph())}))
    assert found == {"how": "comfyui", "asked": OF_GRAPH, "unused": [["ckpt_name", "mine/dreamy.safetensors"]]}


def test_what_a_request_cannot_take_is_not_used(tmp_path: Path) -> None:
    wild = graph(seed=2**64 - 1, scheduler="beta57", cfg=1e9, steps=20)
    found = settings_in(written(tmp_path, "png", prompt=json.dumps(wild)))
    assert found is not None
    assert set(found["asked"]) == set(OF_GRAPH) - {"seed", "schedule", "cfg"}
    left = dict(found["unused"])
    assert (left["seed"], left["schedule"], left["cfg"]) == (str(2**64 - 1), "beta57", "1e+09")


def test_what_comes_back_is_a_request_that_a_job_takes(tmp_path: Path) -> None:
    found = settings_in(written(tmp_path, "png", parameters=INFOTEXT))
    assert found is not None
    asked = found["asked"]
    numbers = {"seed": int(asked["seed"]), "steps": int(asked["steps"]), "cfg": float(asked["cfg"])}
    read = read_request("generate", {"character": "mira", **asked, **numbers})
    assert isinstance(read, GenerateJob)
    assert (read.steps, read.cfg, read.sampler) == (30, 7.0, "DPM++ 2M Karras")


HOSTILE = [
    "{", "[]", '{"3": 5}', json.dumps({"nodes": [1], "links": [[1]]}), "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000,
    json.dumps(graph(positive=["3", 0])), json.dumps({str(n): {"class_type": "x", "inputs": {}} for n in range(9000)}),
    "Steps: " * 30_000, "Negative prompt:" * 20_000, "\0\ud7ff" * 100, "<img src=x onerror=alert(1)>",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_give_nothing_or_little(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, "png", parameters=text, prompt=text, workflow=text)
    found = settings_in(path)
    assert found is None or len(json.dumps(found)) < 4000 * (MOST_UNUSED + 10)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_broken_exif_comment_is_no_error(data: bytes, utf16: bool) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = (b"UNICODE\0" if utf16 else b"") + data
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(buffer.getvalue())
        file.flush()
        texts_in(Path(file.name))


def test_what_is_no_picture_holds_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"<svg/>")
    assert texts_in(path) == {}
    assert texts_in(tmp_path / "none.png") == {}


def test_an_own_image_brings_back_all_that_was_asked_of_it(workspace: Path) -> None:
    request = Request(
        "mini", "mira", "smiling", "blurred", 7, sampling=Sampling(12, 2.5, "euler_a", "karras"),
        loras=(AskedLora("loras/ink.safetensors", "sdxl", 0.6),),
    )  # fmt: skip
    with Store.open(workspace / ".sosie") as store:
        drawn = plan(RECIPE, MIRA, request, Draw(), {**DIGESTS, "loras/ink.safetensors": "c" * 64})
        stored = store.add_render(replace(a_render(7), plan=drawn))
    with Gallery(workspace / ".sosie") as gallery:
        shown = gallery.of_plan(stored.plan.id)
        assert shown is not None
        assert gallery.of_plan("0" * 64) is None
        found = settings_of(gallery, shown)
    assert found["asked"] == {
        "character": "mira",
        "recipe": stored.plan.recipe,
        "prompt": "smiling <lora:ink:0.6>",
        "negative": "blurred",
        "seed": "7",
        "steps": "12",
        "cfg": "2.5",
        "sampler": "euler_a",
        "schedule": "karras",
        "size": f"{stored.plan.width}x{stored.plan.height}",
    }


def test_a_manifest_names_plan_and_recipe_to_the_page(workspace: Path) -> None:
    from sosie.provenance.keys import ensure_key

    opened = open_workspace(workspace)
    path = workspace / "other.jpg"
    write_signed(Image.new("RGB", (64, 64)), path, Claim("ab" * 32, "zimage", "fake", ()), ensure_key(workspace / "k"))
    assert traced(opened, path) == {"plan": "ab" * 32, "recipe": "zimage"}
    assert settings_of_recipe("zimage") == {"how": "manifest", "asked": {"recipe": "zimage"}, "unused": []}
    path.write_bytes(path.read_bytes()[:-40])
    assert traced(opened, path) == {"plan": "", "recipe": ""}
