from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import ask
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT

import sosie.families
from sosie.core.errors import BadModelError, ConfigError, NotFoundError, SosieError
from sosie.families import families
from sosie.families.contract.family import Family
from sosie.files import digest
from sosie.files.cache import cache_folder
from sosie.files.digest import asset_digest, file_digest
from sosie.files.model_file import Ambiguous, Broken, Identification, Known, Unknown, identify
from sosie.files.safetensors import BITS, MAX_HEADER, Header, parse_header, read_header
from sosie.files.signature import Mark, Part

PACKED = ROOT / "packages" / "sosie-mini" / "src" / "sosie_mini" / "weights"

Shapes = Mapping[str, tuple[int, ...]]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SOSIE_CACHE", str(root))
    return root


def write(path: Path, shapes: Shapes, dtype: str = "F16", metadata: Mapping[str, str] | None = None) -> Path:
    """A valid file of that header; its tensors are a hole in the file, so any size is free."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * BITS[dtype] // 8
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return write_raw(path, json.dumps(table).encode(), end)


def write_raw(path: Path, header: bytes, data: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + data)
    return path


def write_table(path: Path, table: Any, data: int = 8) -> Path:
    return write_raw(path, json.dumps(table).encode(), data)


# Headers


def test_a_file_of_the_safetensors_library_reads_as_what_was_written(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    tensors = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.int8), "empty": np.zeros((0, 5), np.float16)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "m.safetensors")
    found = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    assert found == {"a": ("F32", (2, 3)), "b": ("I8", (4,)), "empty": ("F16", (0, 5))}
    assert header.metadata == {"format": "pt"}


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

BAD_TABLES: list[tuple[str, Any]] = [
    ("is not a JSON object", [1]),
    ("'t' is not described by a JSON object", {"t": 1}),
    ("'t' has no data_offsets", {"t": {"dtype": "F32", "shape": [2]}}),
    ("unknown dtype 'F23'; did you mean 'F32'", {"t": {**TENSOR, "dtype": "F23"}}),
    ("unknown dtype", {"t": {**TENSOR, "dtype": ["F32"]}}),
    ("has a shape that", {"t": {**TENSOR, "shape": [-2]}}),
    ("has a shape that", {"t": {**TENSOR, "shape": [2.0]}}),
    ("has a shape that", {"t": {**TENSOR, "shape": [True, 2]}}),
    ("has a shape that", {"t": {**TENSOR, "shape": [1] * 33 + [2]}}),
    ("has data_offsets that", {"t": {**TENSOR, "data_offsets": [8, 0]}}),
    ("has data_offsets that", {"t": {**TENSOR, "data_offsets": [-8, 0]}}),
    ("has data_offsets that", {"t": {**TENSOR, "data_offsets": [0, 8, 8]}}),
    (r"has 8 bytes; F32 \[3\] takes 12", {"t": {**TENSOR, "shape": [3]}}),
    ("takes more than any file holds", {"t": {**TENSOR, "shape": [2**62] * 30}}),
    ("__metadata__", {"__metadata__": {"a": 1}, "t": TENSOR}),
    ("__metadata__", {"__metadata__": [], "t": TENSOR}),
    ("'u' overlaps tensor 't'", {"t": TENSOR, "u": {**TENSOR, "data_offsets": [4, 12]}}),
    ("'u' leaves a gap after tensor 't'", {"t": TENSOR, "u": {**TENSOR, "data_offsets": [12, 20]}}),
    ("'t' leaves a gap after the header", {"t": {**TENSOR, "data_offsets": [8, 16]}}),
]


@pytest.mark.parametrize(("message", "table"), BAD_TABLES)
def test_a_header_that_contradicts_itself_is_refused_with_the_reason(tmp_path: Path, message: str, table: Any) -> None:
    with pytest.raises(BadModelError, match=message) as caught:
        read_header(write_table(tmp_path / "m.safetensors", table, 20))
    assert caught.value.message.startswith(str(tmp_path / "m.safetensors"))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("key 't' is there twice", b'{"t": {"dtype":"U8","shape":[],"data_offsets":[0,1]}, "t": 1}'),
        ("key 'dtype' is there twice", b'{"t": {"dtype":"U8","dtype":"F32","shape":[],"data_offsets":[0,1]}}'),
        ("not valid JSON", b'{"t": '),
        ("not valid JSON", b'{"t": NaN}'),
        ("not valid JSON", b"{" + b'"t":[' * 4 + b'"\xff\xfe"]'),
        ("not valid JSON", b'{"t":' + b"[" * 200_000),
        ("not valid JSON", b'{"t":' + b"9" * 10_000 + b"}"),
        ("not a JSON object", b"  {}"),
    ],
)
def test_a_header_that_is_no_json_object_is_refused(tmp_path: Path, message: str, text: bytes) -> None:
    with pytest.raises(BadModelError, match=message):
        read_header(write_raw(tmp_path / "m.safetensors", text, 1))


def test_a_download_that_stopped_is_truncated_with_the_share_that_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"t": (1000,)})
    os.truncate(path, path.stat().st_size - 500)
    with pytest.raises(BadModelError, match=r"is truncated: 1,500 of 2,000 bytes of tensors are there \(75%\)"):
        read_header(path)


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"t": (4,)})
    with path.open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(BadModelError, match="has 1 bytes after its last tensor"):
        read_header(path)


def test_a_file_that_ends_inside_its_header_is_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"t": (4,)})
    os.truncate(path, 30)
    with pytest.raises(BadModelError, match="is truncated: 30 bytes, and its header alone has"):
        read_header(path)


def test_a_header_over_the_cap_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((MAX_HEADER + 1).to_bytes(8, "little") + b"{")
    os.truncate(path, MAX_HEADER * 3)
    monkeypatch.setattr("sosie.files.safetensors.parse_header", lambda *_: pytest.fail("the header was read"))
    with pytest.raises(BadModelError, match="not a safetensors file"):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "is a web page", "token"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "is a web page", "token"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6938040682\n",
            r"is a Git LFS pointer, not the file \(of 6,938,040,682 bytes\)",
            "git lfs pull",
        ),
        (b"GGUF\3\0\0\0" + bytes(100), "is a GGUF file", "safetensors"),
        (b"PK\3\4" + bytes(100), "PyTorch checkpoint", "safetensors"),
        (b"\x80\2\x8a\n" + b"l\xfc\x9c" * 9, "Python pickle", "safetensors"),
        (b'{"error": "Repository not found"}', "is a JSON file", "safetensors"),
        (bytes(4096), "begins with zeros: 4,096 bytes", "again"),
        (b"", "begins with zeros: 0 bytes", "again"),
        (b"\x01", "not a safetensors file", "again"),
        (b"random text of no kind at all", "not a safetensors file", "again"),
    ],
)
def test_what_is_no_safetensors_file_is_told_by_its_content(
    tmp_path: Path, content: bytes, message: str, hint: str
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadModelError, match=message) as caught:
        read_header(path)
    assert hint in caught.value.hint


def test_what_is_not_there_or_no_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.safetensors does not exist"):
        read_header(tmp_path / "nothing.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path, tmp_path / "pipe.safetensors"):
        with pytest.raises(BadModelError, match="not a file"):
            read_header(path)


VALID = json.dumps(
    {
        "__metadata__": {"format": "pt"},
        "add_embedding.linear_1.weight": {"dtype": "F16", "shape": [4, 3], "data_offsets": [0, 24]},
        "conv_in.weight": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
    }
).encode()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8 + len(VALID) + 31), st.binary(min_size=0, max_size=6)), max_size=4),
    st.integers(-40, 20),
)
def test_a_file_with_any_bytes_changed_is_an_answer_or_a_bad_model_but_never_a_crash(
    changes: list[tuple[int, bytes]], cut: int
) -> None:
    content = bytearray(len(VALID).to_bytes(8, "little") + VALID + bytes(32))
    for place, new in changes:
        content[place : place + len(new)] = new
    whole = bytes(content[:cut] if cut < 0 else bytes(content) + bytes(cut))
    path = cache_folder() / "mutated.safetensors"
    path.write_bytes(whole)
    try:
        header = read_header(path)
    except BadModelError:
        assert isinstance(identify(path, families()), Broken)
    else:
        length = int.from_bytes(whole[:8], "little")
        ends = [info.offsets[1] for info in header.tensors.values()]
        assert 8 + length + max(ends, default=0) == len(whole)
        assert not isinstance(identify(path, families()), Broken) or not ends


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*BITS, "F23"]) | JSON_VALUES,
        "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=40) | JSON_VALUES,
        "data_offsets": st.lists(st.integers(0, 64) | st.integers(), min_size=2, max_size=2) | JSON_VALUES,
        "extra": JSON_VALUES,
    },
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.text(max_size=6) | st.just("__metadata__"), FIELDS | JSON_VALUES, max_size=4) | JSON_VALUES)
def test_a_header_of_any_json_is_a_header_or_a_bad_model_but_never_a_crash(table: Any) -> None:
    text = json.dumps(table).encode()
    try:
        header = parse_header(text, "somewhere")
    except BadModelError as error:
        str(error.message).encode()
    else:
        assert isinstance(header, Header)
        for info in header.tensors.values():
            assert math.prod(info.shape) * BITS[info.dtype] == 8 * (info.offsets[1] - info.offsets[0])
    path = write_raw(cache_folder() / "mutated.safetensors", text, 16)
    identify(path, families()).message.encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_a_header_or_a_bad_model(content: bytes) -> None:
    with contextlib.suppress(BadModelError):
        assert isinstance(parse_header(content, "somewhere"), Header)
    path = cache_folder() / "mutated.safetensors"
    path.write_bytes(content)
    assert isinstance(identify(path, families()), Broken)


# What a file is


def test_every_packed_part_of_mini_is_known_without_torch() -> None:
    expected = {
        "unet/diffusion_pytorch_model": ("sdxl", "denoiser", "reduced", "diffusers"),
        "vae/diffusion_pytorch_model": ("autoencoders", "vae", "4 channels, reduced", "diffusers"),
        "controlnet/diffusion_pytorch_model": ("sdxl", "controlnet", "reduced", "diffusers"),
        "ip-adapter/ip-adapter-faceid_mini": ("sdxl", "ip-adapter", "faceid, reduced", "ip-adapter"),
        "text_encoder/model": ("clip", "text-encoder", "reduced", "transformers"),
        "text_encoder_2/model": ("clip", "text-encoder", "reduced, projected", "transformers"),
    }
    for name, answer in expected.items():
        model = known(identify(PACKED / f"{name}.safetensors", families()))
        assert (model.family, model.role, model.variant, model.layout) == answer
        assert model.storage == "int8"
    unet = known(identify(PACKED / "unet/diffusion_pytorch_model.safetensors", families()))
    assert round(unet.parameters / 1e6, 1) == 20.5


def test_the_folder_of_mini_is_a_pipeline_that_predicts_v() -> None:
    model = known(identify(PACKED, families()))
    assert (model.role, model.family, model.variant) == ("pipeline", "sdxl", "reduced, v-prediction")
    assert model.bytes == sum(file.stat().st_size for file in PACKED.rglob("*") if file.is_file())


def known(answer: Identification) -> Any:
    assert isinstance(answer, Known), answer.message
    return answer.model


SGM = "model.diffusion_model."
TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
CHECKPOINT: Shapes = {
    "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,),
    f"{SGM}label_emb.0.0.weight": (1280, 2816),
    f"{SGM}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{SGM}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
    f"{SGM}output_blocks.8.0.out_layers.3.weight": (320, 320, 3, 3),
    "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
}
REFINER: Shapes = {
    "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,),
    f"{SGM}label_emb.0.0.weight": (1536, 2560),
    f"{SGM}input_blocks.0.0.weight": (384, 4, 3, 3),
}
COMFY: Shapes = {n: s for n, s in CHECKPOINT.items() if n.startswith(SGM)}
UNET: Shapes = {
    "conv_in.weight": (320, 4, 3, 3),
    "add_embedding.linear_1.weight": (1280, 2816),
    TO_K: (640, 2048),
    "up_blocks.0.resnets.0.conv1.weight": (1280, 2560, 3, 3),
}
CONTROL: Shapes = {
    "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
    "add_embedding.linear_1.weight": (1280, 2816),
    "conv_in.weight": (320, 4, 3, 3),
    TO_K: (640, 2048),
}
VAE: Shapes = {
    "decoder.conv_in.weight": (512, 4, 3, 3),
    "decoder.conv_in.bias": (512,),
    "decoder.mid_block.resnets.0.norm1.weight": (512,),
    "post_quant_conv.weight": (4, 4, 1, 1),
}
LDM_VAE: Shapes = {n.replace("mid_block.resnets.0", "mid.block_1"): s for n, s in VAE.items()}
CLIP_L: Shapes = {
    "text_model.embeddings.token_embedding.weight": (49408, 768),
    "text_model.embeddings.position_embedding.weight": (77, 768),
    "text_model.final_layer_norm.weight": (768,),
    "text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768),
}
CLIP_G: Shapes = {n: tuple(1280 if a == 768 else a for a in s) for n, s in CLIP_L.items()}
ADAPTER: Shapes = {"ip_adapter.1.to_k_ip.weight": (640, 2048)}
PLUS: Shapes = {"image_proj.proj.0.weight": (1, 1), "image_proj.perceiver_resampler.proj_in.weight": (1, 1)}
INSTANTID: Shapes = {"image_proj.latents": (1, 16, 1280), "image_proj.proj_in.weight": (1280, 512)}


def changed(shapes: Shapes, name: str, *shape: int) -> Shapes:
    assert name in shapes
    return {**shapes, name: shape}


NINE = (320, 9, 3, 3)
STOCK: list[tuple[str, Shapes, str, str]] = [
    ("checkpoint", CHECKPOINT, "checkpoint", "base"),
    ("inpaint checkpoint", changed(CHECKPOINT, f"{SGM}input_blocks.0.0.weight", *NINE), "checkpoint", "inpaint"),
    ("v checkpoint", {**CHECKPOINT, "v_pred": (0,), "ztsnr": (0,)}, "checkpoint", "v-prediction"),
    ("edm v checkpoint", {**CHECKPOINT, "edm_vpred.sigma_max": ()}, "checkpoint", "v-prediction"),
    ("Playground", {**CHECKPOINT, "edm_mean": (4,), "edm_std": (4,)}, "checkpoint", "edm"),
    ("refiner", REFINER, "checkpoint", "refiner"),
    ("Comfy UNet", COMFY, "denoiser", "base"),
    ("Comfy v UNet", {**COMFY, "v_pred": (0,)}, "denoiser", "v-prediction"),
    ("bare Comfy UNet", {n.removeprefix(SGM): s for n, s in COMFY.items()}, "denoiser", "base"),
    ("UNet", UNET, "denoiser", "base"),
    ("inpaint UNet", changed(UNET, "conv_in.weight", *NINE), "denoiser", "inpaint"),
    ("pix2pix UNet", changed(UNET, "conv_in.weight", 320, 8, 3, 3), "denoiser", "pix2pix"),
    ("ControlNet", CONTROL, "controlnet", "base"),
    ("small ControlNet", {n: s for n, s in CONTROL.items() if n != TO_K}, "controlnet", "base"),
    ("union", {**CONTROL, "control_add_embedding.linear_1.weight": (1280, 1536)}, "controlnet", "union"),
    ("IP-Adapter", {**ADAPTER, "image_proj.proj.weight": (8192, 1280)}, "ip-adapter", "base"),
    ("IP-Adapter Plus", {**ADAPTER, "image_proj.latents": (1, 16, 1280)}, "ip-adapter", "plus"),
    ("FaceID", {**ADAPTER, "image_proj.proj.0.weight": (1024, 512)}, "ip-adapter", "faceid"),
    ("FaceID Plus", {**ADAPTER, **PLUS}, "ip-adapter", "faceid-plus"),
    ("InstantID", {**ADAPTER, **INSTANTID}, "instantid", "base"),
]


@pytest.mark.parametrize(("shapes", "role", "variant"), [row[1:] for row in STOCK], ids=[row[0] for row in STOCK])
def test_a_part_of_sdxl_is_known_by_role_and_variant(tmp_path: Path, shapes: Shapes, role: str, variant: str) -> None:
    model = known(identify(write(tmp_path / "m.safetensors", shapes), families()))
    assert (model.family, model.role, model.variant, model.storage) == ("sdxl", role, variant, "fp16")
    assert model.parameters == sum(map(math.prod, shapes.values()))
    assert model.bytes == (tmp_path / "m.safetensors").stat().st_size


OTHERS: list[tuple[str, Shapes, str, str]] = [
    ("Kolors UNet", changed(UNET, "add_embedding.linear_1.weight", 1280, 5632), "sdxl", "expected 2816 on axis 1"),
    ("UNet with its own text", {**UNET, "encoder_hid_proj.weight": (2048, 4096)}, "sdxl", "also has 'encoder_hid_proj"),
    (
        "video UNet",
        {
            **{n: (s if n != TO_K else (640, 1024)) for n, s in UNET.items()},
            "add_embedding.linear_1.weight": (1280, 768),
            "down_blocks.0.attentions.0.temporal_transformer_blocks.0.norm1.weight": (320,),
        },
        "sdxl",
        "also has 'down_blocks.0.attentions.*'",
    ),
    ("wide FaceID", {"ip_adapter.1.to_k_ip.weight": (320, 4096), **PLUS}, "sd1", "expected 768 on axis 1"),
    ("wide CLIP", {n: tuple(1536 if a == 768 else a for a in s) for n, s in CLIP_L.items()}, "clip", "expected 768"),
    ("VAE of 8 channels", changed(VAE, "decoder.conv_in.weight", 512, 8, 3, 3), "autoencoders", "expected 4 on axis 1"),
    (
        "Chroma without its text",
        {
            "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
            "single_blocks.0.norm.key_norm.scale": (128,),
            "img_in.bias": (3072,),
            "distilled_guidance_layer.in_proj.bias": (5120,),
        },
        "flux1",
        "lacks 'vector_in.in_layer.bias'",
    ),
    (
        "narrow Z-Image",
        {"cap_embedder.0.weight": (2560,), "cap_embedder.1.bias": (3840,), "x_embedder.bias": (1024,)},
        "zimage",
        "lacks 'layers.0.adaLN_modulation.0.bias'",
    ),
]


@pytest.mark.parametrize(("shapes", "near", "because"), [row[1:] for row in OTHERS], ids=[row[0] for row in OTHERS])
def test_a_file_of_no_known_family_is_unknown_and_the_nearest_says_what_differs(
    tmp_path: Path, shapes: Shapes, near: str, because: str
) -> None:
    answer = identify(write(tmp_path / "m.safetensors", shapes), families())
    assert isinstance(answer, Unknown), answer.message
    assert answer.nearest == near
    assert because in answer.because
    assert f"nearest is {near} because {answer.because}" in answer.message


def test_a_file_with_nothing_known_in_it_has_no_nearest(tmp_path: Path) -> None:
    shapes = {"blocks.0.weight": (16, 256), "blocks.1.weight": (38, 25)}
    answer = identify(write(tmp_path / "m.safetensors", shapes), families())
    assert isinstance(answer, Unknown)
    assert answer.nearest == ""
    assert "none of its 2 tensors is known (the first is 'blocks.0.weight')" in answer.message


def test_a_file_that_two_families_know_is_ambiguous_and_names_both(tmp_path: Path) -> None:
    vae = Part("vae", "diffusers", (Mark("decoder.conv_in.weight", 1, (4,)),))
    other = Family("mine", "Mine", (vae,))
    answer = identify(write(tmp_path / "m.safetensors", VAE), (*families(), other))
    assert isinstance(answer, Ambiguous)
    assert [model.family for model in answer.candidates] == ["autoencoders", "mine"]
    assert "family autoencoders or mine" in answer.message


def test_a_file_that_two_parts_of_one_family_match_is_the_first_of_them(tmp_path: Path) -> None:
    parts = tuple(Part("vae", "diffusers", (Mark("decoder.conv_in.weight"),), variant=name) for name in ("a", "b"))
    answer = identify(write(tmp_path / "m.safetensors", VAE), (Family("one", "One", parts),))
    assert known(answer).variant == "a"


def test_a_truncated_or_empty_file_is_broken_and_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", UNET)
    os.truncate(path, path.stat().st_size // 2)
    answer = identify(path, families())
    assert isinstance(answer, Broken)
    assert "truncated" in answer.message
    assert answer.hint
    answer = identify(write(tmp_path / "empty.safetensors", {}), families())
    assert isinstance(answer, Broken)
    assert "holds no tensors" in answer.message


def test_a_file_that_is_not_there_is_an_error_and_not_an_answer(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        identify(tmp_path / "nothing", families())


@pytest.mark.parametrize(
    ("dtype", "name"), [("F32", "fp32"), ("BF16", "bf16"), ("F8_E4M3", "fp8_e4m3"), ("I32", "i32")]
)
def test_storage_is_the_dtype_of_most_bytes(tmp_path: Path, dtype: str, name: str) -> None:
    assert known(identify(write(tmp_path / "m.safetensors", VAE, dtype), families())).storage == name


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    write(root / "unet" / "diffusion_pytorch_model.safetensors", UNET)
    write(root / "vae" / "diffusion_pytorch_model.safetensors", VAE)
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "feature_extractor": [None, None],
        "force_zeros_for_empty_prompt": True,
    }
    (root / "model_index.json").write_text(json.dumps(index))
    return root


def test_a_folder_is_a_pipeline_of_its_denoisers_family(folder: Path) -> None:
    model = known(identify(folder, families()))
    assert (model.path, model.role, model.family, model.variant) == (folder, "pipeline", "sdxl", "base")
    assert model.parameters == sum(map(math.prod, [*UNET.values(), *VAE.values()]))


def test_the_schedulers_configuration_tells_v_prediction(folder: Path) -> None:
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    assert known(identify(folder, families())).variant == "base, v-prediction"


def test_a_component_in_shards_is_known_by_all_of_them_and_a_missing_shard_is_broken(folder: Path) -> None:
    names = list(UNET)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shards = {"a.safetensors": names[:2], "b.safetensors": names[2:]}
    for shard, held in shards.items():
        write(folder / "unet" / shard, {name: UNET[name] for name in held})
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert known(identify(folder, families())).family == "sdxl"
    (folder / "unet" / "b.safetensors").unlink()
    answer = identify(folder, families())
    assert isinstance(answer, Broken)
    assert "b.safetensors is missing" in answer.message


def test_a_variant_of_the_weights_is_read_when_it_is_the_only_one(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert known(identify(folder, families())).family == "sdxl"


def break_vae(folder: Path) -> None:
    os.truncate(folder / "vae" / "diffusion_pytorch_model.safetensors", 100)


def lose_vae(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()


def lose_vae_folder(folder: Path) -> None:
    lose_vae(folder)
    (folder / "vae").rmdir()


def lead_out(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"../model/unet": ["diffusers", "UNet2DConditionModel"]}')


def shard_out(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}')


def garble(folder: Path) -> None:
    (folder / "model_index.json").write_bytes(b"\xff[")


def nest(folder: Path) -> None:
    (folder / "model_index.json").write_bytes(b"[" * 100_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_vae, "vae/diffusion_pytorch_model.safetensors is truncated"),
        (lose_vae, "vae holds no .safetensors file"),
        (lose_vae_folder, "lacks the component 'vae'"),
        (lead_out, "lacks the component '../model/unet'"),
        (shard_out, "has no weight_map of tensors to files"),
        (garble, "model_index.json is not valid JSON"),
        (nest, "model_index.json is not valid JSON"),
    ],
)
def test_a_folder_with_a_damaged_part_is_broken_and_names_it(folder: Path, damage: Any, message: str) -> None:
    damage(folder)
    answer = identify(folder, families())
    assert isinstance(answer, Broken)
    assert message in answer.message


def test_a_folder_that_is_no_pipeline_is_unknown(tmp_path: Path) -> None:
    answer = identify(tmp_path, families())
    assert isinstance(answer, Unknown)
    assert "model_index.json" in answer.message
    (tmp_path / "model_index.json").write_text('{"vqvae": [null, null]}')
    answer = identify(tmp_path, families())
    assert isinstance(answer, Unknown)
    assert "unet or transformer" in answer.message


# Families


@pytest.fixture
def fresh_families() -> Iterator[None]:
    families.cache_clear()
    yield
    families.cache_clear()


class Entry:
    name, value, dist = "extra", "package:FAMILY", None

    def __init__(self, loaded: object) -> None:
        self._loaded = loaded

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def offer(monkeypatch: pytest.MonkeyPatch, loaded: object) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry(loaded)])


def test_each_family_has_the_name_of_its_folder() -> None:
    folders = {p.parent.name for p in Path(sosie.families.__file__).parent.glob("*/__init__.py")} - {
        "contract",
        "guides",
    }
    for folder in folders:
        assert importlib.import_module(f"sosie.families.{folder}").FAMILY.name == folder
    assert folders <= {family.name for family in families()}


def test_finding_families_and_identifying_a_model_import_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from sosie.families import families; "
        "from sosie.files.model_file import identify; from sosie.files.digest import asset_digest; "
        f"identify(Path({str(PACKED)!r}), families()); asset_digest(Path({str(PACKED)!r})); "
        "print([m for m in ('torch', 'diffusers', 'numpy', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("fresh_families")
def test_a_family_of_another_distribution_joins_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = Family("aaa", "Triple A", ())
    offer(monkeypatch, extra)
    assert families()[0] == extra
    assert "sdxl" in {family.name for family in families()}


@pytest.mark.usefixtures("fresh_families")
@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (Family("sdxl", "Mine", ()), "'sdxl', which is there already"),
        (ImportError("no module"), "'extra = package:FAMILY' of a package cannot be loaded: no module"),
        ("text", "names a str, not a Family"),
    ],
)
def test_a_wrong_entry_point_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, loaded: object, message: str
) -> None:
    offer(monkeypatch, loaded)
    with pytest.raises(ConfigError, match=message):
        families()


# Digests


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of three files that were last touched a minute ago."""
    for name, content in {"b.txt": b"b", "a/c.txt": b"c", "a.txt": b"a"}.items():
        (tmp_path / "digested" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "digested" / name).write_bytes(content)
    return tmp_path / "digested"


@pytest.fixture
def _a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest.time, "time", lambda now=time.time: now() + 60)


def test_the_digest_of_a_file_is_its_sha256(model: Path) -> None:
    assert file_digest(model / "b.txt") == asset_digest(model / "b.txt") == hashlib.sha256(b"b").hexdigest()


def test_the_digest_of_a_folder_is_that_of_its_sorted_listing(model: Path) -> None:
    listing = b"".join(
        name + b"\0" + hashlib.sha256(content).hexdigest().encode() + b"\n"
        for name, content in [(b"a.txt", b"a"), (b"a/c.txt", b"c"), (b"b.txt", b"b")]
    )
    assert asset_digest(model) == hashlib.sha256(listing).hexdigest()


def test_hidden_files_do_not_count_and_a_name_or_a_byte_does(model: Path) -> None:
    before = asset_digest(model)
    (model / ".complete").write_text("x")
    (model / ".git").mkdir()
    (model / ".git" / "config").write_text("x")
    assert asset_digest(model) == before
    (model / "b.txt").rename(model / "d.txt")
    renamed = asset_digest(model)
    assert renamed != before
    (model / "d.txt").write_bytes(b"B")
    assert asset_digest(model) not in (before, renamed)


def test_links_are_followed_and_a_link_to_a_folder_above_is_an_error(model: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("a", "a.txt", "b.txt"):
        (linked / name).symlink_to(model / name)
    assert asset_digest(linked) == asset_digest(model)
    (model / "a" / "up").symlink_to(model)
    with pytest.raises(BadModelError, match="link to a folder that holds it"):
        asset_digest(model)


@pytest.mark.usefixtures("_a_minute_later")
def test_a_file_is_read_once_until_it_changes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counting(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(digest, "file_digest", counting)
    first = asset_digest(model)
    assert sorted(read) == ["a.txt", "b.txt", "c.txt"]
    assert asset_digest(model) == first
    assert len(read) == 3
    stat = (model / "b.txt").stat()
    (model / "b.txt").write_bytes(b"x")
    os.utime(model / "b.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert asset_digest(model) != first
    assert read[3:] == ["b.txt"]


@pytest.mark.usefixtures("_a_minute_later")
@pytest.mark.parametrize("how", ["moved", "written in place", "linked"])
def test_another_content_under_the_same_name_with_the_same_size_and_time_is_read(model: Path, how: str) -> None:
    before = asset_digest(model / "a.txt")
    stat = (model / "a.txt").stat()
    if how == "moved":
        (model / "b.txt").replace(model / "a.txt")
    elif how == "linked":
        (model / "a.txt").unlink()
        os.link(model / "b.txt", model / "a.txt")
    else:
        (model / "a.txt").write_bytes(b"x")
    os.utime(model / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (model / "a.txt").stat().st_mtime_ns == stat.st_mtime_ns
    assert asset_digest(model / "a.txt") != before


def test_a_file_that_was_touched_just_now_is_not_remembered_whatever_time_it_says(model: Path, cache: Path) -> None:
    os.utime(model / "a.txt", (1, 1))
    asset_digest(model)
    assert ask(cache / "digests.sqlite", "SELECT path FROM stamped") == []


def test_a_cache_that_cannot_be_written_means_only_that_nothing_is_remembered(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = asset_digest(model)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOSIE_CACHE", str(tmp_path / "file" / "cache"))
    assert asset_digest(model) == expected


@pytest.mark.usefixtures("_a_minute_later")
def test_a_cache_that_is_no_database_is_made_anew(model: Path, cache: Path) -> None:
    expected = asset_digest(model)
    (cache / "digests.sqlite").write_bytes(b"not a database, however one looks at it" * 99)
    assert asset_digest(model) == expected
    assert asset_digest(model) == expected
    (rows,) = ask(cache / "digests.sqlite", "SELECT count(*) FROM stamped")
    assert rows == (3,)


def test_a_digest_of_what_is_not_there_or_no_file_is_an_error_that_names_it(model: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing does not exist"):
        asset_digest(model / "nothing")
    os.mkfifo(model / "pipe")
    with pytest.raises(BadModelError, match="pipe is not a file"):
        asset_digest(model)


def test_the_cache_is_where_the_environment_says_else_in_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOSIE_CACHE", "somewhere")
    assert cache_folder() == Path.cwd() / "somewhere"
    monkeypatch.setenv("SOSIE_CACHE", "")
    assert cache_folder().name == "sosie"


def test_answers_are_frozen(tmp_path: Path) -> None:
    answer = identify(write(tmp_path / "m.safetensors", VAE), families())
    with pytest.raises(dataclasses.FrozenInstanceError):
        known(answer).family = "other"
    with pytest.raises(TypeError):
        read_header(tmp_path / "m.safetensors").tensors["x"] = None  # type: ignore[index]
    assert issubclass(BadModelError, SosieError)


def test_a_header_of_too_many_tensors_is_refused_before_it_is_parsed() -> None:
    entry = '"t%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(entry % index for index in range(20_001)) + "}"
    with pytest.raises(BadModelError, match="more than 20,000 tensors"):
        parse_header(text.encode(), "many.safetensors")
