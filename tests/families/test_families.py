from __future__ import annotations

import array
import dataclasses
import gzip
import math
import random
import struct
import tracemalloc
from pathlib import Path
from types import MappingProxyType

import pytest
from header_files import fill, hollow, stripped
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from rules import codes_in

from sosie.core import Finding
from sosie.core.errors import BadModelError, ConfigError, NotFoundError
from sosie.doctor.model_files import check_model_file
from sosie.doctor.model_probe import SAMPLES, probe
from sosie.families import families
from sosie.files.model_file import Ambiguous, Broken, Known, ModelFile, Unknown, identify, identify_header
from sosie.files.safetensors import BITS, Header, TensorInfo, read_header
from sosie.files.signature import COMFY, claims
from sosie.files.storage import LOADERS, UNKNOWN_SIZE, loader, parameters, storage, unpacked
from sosie.files.strip import read_stripped, strip, write_stripped
from sosie.workspace.known import fingerprint, read_known, remember

CODES = codes_in("doctor/model_files.py", "doctor/model_probe.py")

HEADERS = ROOT / "tests" / "fixtures" / "headers"
NAMES = sorted(path.name.removesuffix(".json.gz") for path in HEADERS.glob("*.json.gz"))

SHARED = "Base, Turbo or De-Turbo (the same header)"
V_OR_EPS = "base or v-prediction (the same header)"
DEV = "dev (Kontext and Krea share its header)"
FOUR = "4 channels: SD 1, SD 2 or SDXL (the same header)"
SIXTEEN = "16 channels: FLUX.1 or SD3 (the same header)"
WAN = "16 channels, video: Wan 2.1 or Qwen-Image (the same header)"
LARGE = "3.5 large or large turbo (the same header)"
QWEN = "image or edit (the same header)"
KLEIN = "klein 4B, base or distilled (the same header)"

EXPECTED = {
    "byt5-small": ("t5", "text-encoder", "transformers", "ByT5-small", "bf16"),
    "chroma": ("chroma", "denoiser", "diffusers", "base", "bf16"),
    "clip-g": ("clip", "text-encoder", "transformers", "CLIP-bigG", "fp16"),
    "clip-g-vision": ("clip", "image-encoder", "transformers", "CLIP-bigG", "fp16"),
    "clip-h": ("clip", "text-encoder", "transformers", "CLIP-H", "fp16"),
    "clip-h-vision": ("clip", "image-encoder", "transformers", "CLIP-H", "fp16"),
    "clip-l": ("clip", "text-encoder", "transformers", "CLIP-L", "fp16"),
    "clip-l-vision": ("clip", "image-encoder", "transformers", "CLIP-L", "fp16"),
    "ernie": ("ernie", "denoiser", "diffusers", "base or Turbo (the same header)", "bf16"),
    "esrgan-4x": ("esrgan", "upscaler", "real-esrgan", "4x", "fp32"),
    "esrgan-4x-old": ("esrgan", "upscaler", "esrgan", "4x", "fp32"),
    "esrgan-compact-4x": ("esrgan", "upscaler", "compact", "compact", "fp32"),
    "flux1-dev": ("flux1", "denoiser", "diffusers", DEV, "bf16"),
    "flux1-dev-bnb-nf4": ("flux1", "denoiser", "single file", DEV, "bnb-nf4"),
    "flux1-dev-single": ("flux1", "denoiser", "single file", DEV, "bf16"),
    "flux1-dev-single-fp8": ("flux1", "denoiser", "single file", DEV, "fp8_e4m3"),
    "flux1-dev-svdquant": ("flux1", "denoiser", "nunchaku", DEV, "svdquant"),
    "flux1-fill": ("flux1", "denoiser", "diffusers", "fill", "bf16"),
    "flux1-schnell-single": ("flux1", "denoiser", "single file", "schnell", "bf16"),
    "flux2-dev": ("flux2", "denoiser", "diffusers", "dev", "bf16"),
    "flux2-dev-single": ("flux2", "denoiser", "single file", "dev", "bf16"),
    "flux2-klein-4b": ("flux2", "denoiser", "diffusers", KLEIN, "bf16"),
    "gemma-2-2b": ("language", "text-encoder", "transformers", "Gemma-2-2B", "bf16"),
    "gemma-3-12b": ("language", "text-encoder", "transformers", "Gemma-3-12B", "bf16"),
    "hidream": ("hidream", "denoiser", "diffusers", "base", "bf16"),
    "hunyuan-image": ("hunyuan_image", "denoiser", "diffusers", "base", "bf16"),
    "hunyuan-video": ("hunyuan_video", "denoiser", "diffusers", "1.0", "bf16"),
    "ideogram4": ("ideogram4", "denoiser", "diffusers", "with or without text (the same header)", "bf16"),
    "krea2": ("krea2", "denoiser", "diffusers", "base", "bf16"),
    "llama-3.1-8b": ("language", "text-encoder", "transformers", "Llama-3.1-8B", "bf16"),
    "ltx": ("ltx", "denoiser", "diffusers", "base", "bf16"),
    "lumina2": ("lumina2", "denoiser", "diffusers", "base", "bf16"),
    "lumina2-single": ("lumina2", "denoiser", "single file", "base", "bf16"),
    "ministral-3-3b": ("language", "text-encoder", "transformers", "Ministral-3-3B", "bf16"),
    "mistral-small-24b": ("language", "text-encoder", "transformers", "Mistral-Small-24B", "bf16"),
    "pixart-sigma": ("pixart", "denoiser", "diffusers", "sigma", "bf16"),
    "qwen-image": ("qwen_image", "denoiser", "diffusers", QWEN, "bf16"),
    "qwen-image-2.1": ("qwen_image21", "denoiser", "diffusers", "base or Turbo (the same header)", "bf16"),
    "qwen-image-fp8": ("qwen_image", "denoiser", "diffusers", QWEN, "fp8_e4m3"),
    "qwen2.5-7b": ("language", "text-encoder", "transformers", "Qwen2.5-VL-7B", "bf16"),
    "qwen3-0.6b": ("qwen3", "text-encoder", "transformers", "0.6B", "bf16"),
    "qwen3-4b": ("qwen3", "text-encoder", "transformers", "4B", "bf16"),
    "qwen3-8b": ("qwen3", "text-encoder", "transformers", "8B", "bf16"),
    "qwen3-vl-8b": ("qwen3", "text-encoder", "transformers", "VL-8B", "bf16"),
    "sd1-checkpoint": ("sd1", "checkpoint", "single file", "base", "fp16"),
    "sd1-controlnet": ("sd1", "controlnet", "diffusers", "base", "fp16"),
    "sd1-unet": ("sd1", "denoiser", "diffusers", "base", "fp16"),
    "sd1-unet-inpaint": ("sd1", "denoiser", "diffusers", "inpaint", "fp16"),
    "sd1-unet-single": ("sd1", "denoiser", "single file", "base", "fp16"),
    "sd2-checkpoint": ("sd2", "checkpoint", "single file", V_OR_EPS, "fp16"),
    "sd2-controlnet": ("sd2", "controlnet", "diffusers", "base", "fp16"),
    "sd2-unet": ("sd2", "denoiser", "diffusers", V_OR_EPS, "fp16"),
    "sd2-unet-inpaint": ("sd2", "denoiser", "diffusers", "inpaint", "fp16"),
    "sd2-unet-single": ("sd2", "denoiser", "single file", V_OR_EPS, "fp16"),
    "sd3-medium": ("sd3", "denoiser", "diffusers", "3 medium", "bf16"),
    "sd3-medium-single": ("sd3", "denoiser", "single file", "3 medium", "bf16"),
    "sd3.5-large": ("sd3", "denoiser", "diffusers", LARGE, "bf16"),
    "sd3.5-large-single": ("sd3", "denoiser", "single file", LARGE, "bf16"),
    "sd3.5-medium": ("sd3", "denoiser", "diffusers", "3.5 medium", "bf16"),
    "sdxl-checkpoint": ("sdxl", "checkpoint", "single file", "base", "fp16"),
    "sdxl-controlnet": ("sdxl", "controlnet", "diffusers", "base", "fp16"),
    "sdxl-refiner-unet": ("sdxl", "denoiser", "diffusers", "refiner", "fp16"),
    "sdxl-refiner-unet-single": ("sdxl", "denoiser", "single file", "refiner", "fp16"),
    "sdxl-unet": ("sdxl", "denoiser", "diffusers", "base", "fp16"),
    "sdxl-unet-single": ("sdxl", "denoiser", "single file", "base", "fp16"),
    "t5-xxl": ("t5", "text-encoder", "transformers", "XXL", "bf16"),
    "umt5-xxl": ("t5", "text-encoder", "transformers", "UMT5-XXL", "bf16"),
    "vae-16": ("autoencoders", "vae", "diffusers", SIXTEEN, "bf16"),
    "vae-16-single": ("autoencoders", "vae", "single file", SIXTEEN, "fp32"),
    "vae-4": ("autoencoders", "vae", "diffusers", FOUR, "fp32"),
    "vae-4-single": ("autoencoders", "vae", "single file", FOUR, "fp32"),
    "vae-flux2": ("autoencoders", "vae", "diffusers", "32 channels: FLUX.2", "bf16"),
    "vae-hunyuan-video": ("autoencoders", "vae", "diffusers", "16 channels, Hunyuan's video: HunyuanVideo", "bf16"),
    "vae-ltx": ("autoencoders", "vae", "diffusers", "128 channels, video: LTX-Video", "bf16"),
    "vae-qwen-image": ("autoencoders", "vae", "diffusers", WAN, "bf16"),
    "vae-qwen-image-2.1": ("autoencoders", "vae", "diffusers", "64 channels, Qwen's: Qwen-Image 2.1", "bf16"),
    "vae-wan": ("autoencoders", "vae", "diffusers", WAN, "bf16"),
    "vae-wan-single": ("autoencoders", "vae", "single file", WAN, "bf16"),
    "wan-14b": ("wan", "denoiser", "diffusers", "14B (2.1, or 2.2's high or low noise)", "bf16"),
    "zimage": ("zimage", "denoiser", "diffusers", SHARED, "bf16"),
    "zimage-bnb-nf4": ("zimage", "denoiser", "single file", SHARED, "bnb-nf4"),
    "zimage-dfloat11": ("zimage", "denoiser", "single file", SHARED, "dfloat11"),
    "zimage-fp8-comfy": ("zimage", "denoiser", "single file", SHARED, "fp8_e4m3-comfy"),
    "zimage-fp8-scaled": ("zimage", "denoiser", "single file", SHARED, "fp8_e4m3-scaled"),
    "zimage-nvfp4": ("zimage", "denoiser", "single file", SHARED, "nvfp4"),
    "zimage-omni": ("zimage", "denoiser", "diffusers", "Omni", "bf16"),
    "zimage-single": ("zimage", "denoiser", "single file", SHARED, "bf16"),
}
"""Stripped header -> family, role, layout, variant, storage."""


def known(header: Header) -> ModelFile:
    answer = identify_header(Path("m.safetensors"), header, 1, families())
    assert isinstance(answer, Known), answer.message
    return answer.model


def header_of(shapes: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str] | None = None) -> Header:
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + math.prod(shape) * BITS[dtype] // 8
        tensors[name] = TensorInfo(dtype, shape, (start, end))
    return Header(MappingProxyType(tensors), MappingProxyType(metadata or {}))


def table_of(header: Header) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (info.dtype, info.shape) for name, info in header.tensors.items()}


def codes(findings: list[Finding]) -> list[str]:
    assert {finding.code for finding in findings} <= CODES
    assert all(finding.hint for finding in findings if finding.severity != "info")
    return [finding.code for finding in findings]


# Signatures


def test_every_stripped_header_has_an_expected_answer() -> None:
    assert sorted(EXPECTED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_real_header_is_known_by_family_role_layout_variant_and_storage(name: str) -> None:
    model = known(stripped(name)[0])
    assert (model.family, model.role, model.layout, model.variant, model.storage) == EXPECTED[name]
    if model.expected_parameters:
        assert model.parameters == pytest.approx(model.expected_parameters, rel=0.001)


@pytest.mark.parametrize("name", NAMES)
def test_exactly_one_family_claims_each_header_and_the_order_of_the_families_does_not_matter(name: str) -> None:
    header = unpacked(stripped(name)[0])
    found = claims(header, families())
    assert [claim.family for claim in found] == [EXPECTED[name][0]]
    assert claims(header, families()[::-1]) == found
    for family in families():
        assert bool(claims(header, [family])) == (family.name == EXPECTED[name][0])


@pytest.mark.parametrize(
    "name", ["zimage-single", "flux1-dev-single", "sd3-medium-single", "lumina2-single", "flux2-dev-single"]
)
def test_a_denoiser_in_one_file_with_its_text_encoder_is_a_checkpoint(name: str) -> None:
    inside = {COMFY + n: tensor for n, tensor in table_of(stripped(name)[0]).items()}
    assert known(header_of(inside)).role == "denoiser"
    model = known(header_of({**inside, "text_encoders.x.transformer.shared.weight": ("BF16", (8, 8))}))
    assert (model.role, model.family, model.variant) == ("checkpoint", *EXPECTED[name][0:4:3])
    assert model.expected_parameters == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_lora_of_a_model_is_not_taken_for_the_model(name: str) -> None:
    header, _ = stripped(name)
    flat = {n: i.shape for n, i in header.tensors.items() if len(i.shape) == 2 and n.endswith(".weight")}
    lora = {}
    for tensor, shape in flat.items():
        stem = "diffusion_model." + tensor.removesuffix(".weight")
        lora |= {f"{stem}.lora_A.weight": ("BF16", (16, shape[1])), f"{stem}.lora_B.weight": ("BF16", (shape[0], 16))}
    if lora:
        assert isinstance(identify_header(Path("m"), header_of(lora), 1, families()), Unknown)


OTHERS = sorted((HEADERS / "others").glob("*.json.gz"))


@pytest.mark.parametrize("path", OTHERS, ids=[path.name.partition(".")[0] for path in OTHERS])
def test_a_model_of_another_family_is_unknown_however_many_names_it_shares_with_a_known_one(path: Path) -> None:
    assert len(OTHERS) == 13
    assert isinstance(identify_header(path, read_stripped(path)[0], 1, families()), Unknown)


def test_turbo_and_base_share_a_header_and_the_variant_says_so_but_omni_does_not() -> None:
    base, omni = known(stripped("zimage-single")[0]), known(stripped("zimage-omni")[0])
    assert base.variant == SHARED
    assert base.fingerprint == "layers.28.ffn_norm1.weight"
    assert (omni.variant, omni.fingerprint) == ("Omni", "")
    assert "12.31 GB" in base.plain_file


def test_a_quantised_file_that_hides_the_widths_of_two_families_is_ambiguous_and_not_guessed() -> None:
    packed: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (dtype, shape) in table_of(stripped("sd1-unet")[0]).items():
        packed[name] = (dtype, shape)
        if len(shape) == 2 and name.endswith("weight"):
            packed[name] = ("U8", (-(-math.prod(shape) // 2), 1))
            packed[f"{name}.quant_state.bitsandbytes__nf4"] = ("U8", (80,))
    answer = identify_header(Path("m"), header_of(packed), 1, families())
    assert isinstance(answer, Ambiguous)
    assert [model.family for model in answer.candidates] == ["sd1", "sd2"]


# Storage


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("zimage-") and name != "zimage-omni"])
def test_packed_files_count_the_numbers_of_the_model_and_not_those_of_the_file(name: str) -> None:
    assert parameters(stripped(name)[0]) == 6_154_908_736 + 3_840


def test_unpacking_gives_the_shapes_of_the_plain_file_where_the_header_tells_them() -> None:
    plain = {n: i.shape for n, i in stripped("zimage-single")[0].tensors.items()}
    for name in ("zimage-nvfp4", "zimage-fp8-comfy", "zimage-fp8-scaled"):
        assert {n: i.shape for n, i in unpacked(stripped(name)[0]).tensors.items()} == plain
    hidden = unpacked(stripped("zimage-bnb-nf4")[0]).tensors
    assert set(hidden) == set(plain)
    assert hidden["layers.0.attention.qkv.weight"].shape == (UNKNOWN_SIZE, UNKNOWN_SIZE)
    assert hidden["layers.0.adaLN_modulation.0.bias"].shape == (15360,)


W = "a.weight"
STORAGES = [
    ("fp32", {W: ("F32", (4, 4))}),
    ("fp8_e5m2", {W: ("F8_E5M2", (4, 4))}),
    ("int8-comfy", {W: ("I8", (64, 64)), "a.comfy_quant": ("U8", (20,)), "a.weight_scale": ("F32", (64,))}),
    ("int8", {W: ("I8", (64, 64)), "a.weight_scale": ("F32", (64, 1))}),
    ("mxfp8", {W: ("F8_E4M3", (64, 64)), "a.weight_scale": ("F8_E8M0", (64, 2))}),
    ("bnb-fp4", {W: ("U8", (32, 1)), f"{W}.quant_state.bitsandbytes__fp4": ("U8", (9,))}),
    ("bnb-int8", {W: ("I8", (8, 8)), "a.SCB": ("F32", (8,))}),
    ("awq", {"a.qweight": ("I32", (8, 8)), "a.qzeros": ("I32", (1, 8)), "a.scales": ("F16", (1, 64))}),
    ("gptq", {"a.qweight": ("I32", (8, 8)), "a.g_idx": ("I32", (64,))}),
]


@pytest.mark.parametrize(("name", "table"), STORAGES, ids=[row[0] for row in STORAGES])
def test_a_storage_is_known_by_what_stands_beside_the_weights(
    name: str, table: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    assert storage(header_of(table)) == name


def test_the_newer_quantisation_of_comfy_is_also_told_by_the_metadata_alone() -> None:
    assert storage(header_of({W: ("F8_E4M3", (4, 4))}, {"_quantization_metadata": "{}"})) == "fp8_e4m3-comfy"


def test_plain_storages_load_everywhere_and_every_other_names_what_loads_it() -> None:
    assert [loader(name) for name in ("bf16", "fp16", "fp32", "fp8_e4m3", "int8")] == [""] * 5
    for name in ("dfloat11", "nvfp4", "bnb-nf4", "svdquant", "fp8_e4m3-scaled", "int8-comfy", "gguf-Q4_K"):
        assert loader(name) in LOADERS.values()


# Stripped headers


def test_a_stripped_file_reads_back_as_its_header_without_its_data(tmp_path: Path) -> None:
    header, _ = stripped("zimage-nvfp4")
    whole = hollow(tmp_path / "m.safetensors", header)
    for out in (tmp_path / "m.json", tmp_path / "m.json.gz"):
        strip(whole, out)
        again, size = read_stripped(out)
        assert table_of(again) == table_of(header)
        assert {n: i.offsets for n, i in again.tensors.items()} == {n: i.offsets for n, i in header.tensors.items()}
        assert size == whole.stat().st_size
    assert (tmp_path / "m.json.gz").stat().st_size < 20_000


def test_stripping_keeps_the_keys_of_the_metadata_and_cuts_long_values(tmp_path: Path) -> None:
    write_stripped(header_of({W: ("F32", (1,))}, {"ss_tag_frequency": "x" * 5000, "a": "b"}), 4, tmp_path / "m.json")
    assert read_stripped(tmp_path / "m.json")[0].metadata == {"ss_tag_frequency": "x" * 80, "a": "b"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\x1f\x8b broken",
        b'{"sosie": "header 2", "bytes": 1, "tensors": []}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["a", "F23", [1]]]}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["a", "F32", [-1]]]}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["a", "F32", [true]]]}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["a", ["F32"], [1]]]}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["a", "U8", [1]], ["a", "U8", [1]]]}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["__metadata__", "U8", [1]]]}',
        b'{"sosie": "header 1", "bytes": 1, "tensors": [["a", "F32", [9223372036854775807, 9223372036854775807]]]}',
        gzip.compress(bytes(20_000_000)),
    ],
)
def test_a_damaged_stripped_file_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "m.json").write_bytes(text)
    with pytest.raises(BadModelError, match=r"m\.json"):
        read_stripped(tmp_path / "m.json")
    with pytest.raises(NotFoundError):
        read_stripped(tmp_path / "nothing.json")


def test_a_stripped_file_that_unpacks_without_end_is_read_only_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(bytes(150_000_000), 1))
    tracemalloc.start()
    with pytest.raises(BadModelError, match="longer than"):
        read_stripped(tmp_path / "m.json.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


# Mutations

DTYPES = sorted(BITS)


@st.composite
def mutated(draw: st.DrawFn) -> Header:
    """A real header after some tensors were lost, renamed, reshaped, retyped or mixed with another model's."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    table = dict(table_of(stripped(draw(st.sampled_from(NAMES)))[0]))
    if draw(st.booleans()):
        other = table_of(stripped(draw(st.sampled_from(NAMES)))[0])
        table |= dict(chance.sample(sorted(other.items()), chance.randint(0, len(other))))
    for name in chance.sample(sorted(table), chance.randint(0, min(40, len(table)))):
        dtype, shape = table.pop(name)
        kind = chance.randrange(5)
        if kind == 0:
            table[name[: chance.randrange(len(name))] + chance.choice(["", "\ud7ff", "../", ".weight_scale_2"])] = (
                dtype,
                shape,
            )
        elif kind == 1:
            table[name] = (dtype, tuple(chance.choice([0, 1, 2**40, *shape]) for _ in range(chance.randrange(4))))
        elif kind == 2:
            table[name] = (chance.choice(DTYPES), shape)
        elif kind == 3:
            suffix = chance.choice(["_scale_2", ".quant_state.bitsandbytes__nf4", ".SCB", ".comfy_quant"])
            table |= {name: ("U8", shape), name + suffix: ("F32", ())}
    return header_of(table)


@settings(max_examples=200, deadline=None)
@given(mutated())
def test_a_mutated_header_of_any_family_is_an_answer_and_never_a_crash(header: Header) -> None:
    answer = identify_header(Path("m.safetensors"), header, 1, families())
    answer.message.encode()
    if isinstance(answer, Known):
        assert answer.model.family in {family.name for family in families()}
        assert answer.model.parameters >= 0
        assert loader(answer.model.storage) in ("", *LOADERS.values())
    elif isinstance(answer, Ambiguous):
        assert len({model.family for model in answer.candidates}) == len(answer.candidates) > 1


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_a_header_that_loses_a_tensor_is_still_its_family_or_unknown_but_never_another(
    name: str, data: st.DataObject
) -> None:
    table = table_of(stripped(name)[0])
    for lost in data.draw(st.lists(st.sampled_from(sorted(table)), max_size=3, unique=True)):
        del table[lost]
    answer = identify_header(Path("m"), header_of(table), 1, families())
    if isinstance(answer, Known):
        assert answer.model.family == EXPECTED[name][0]
    else:
        assert isinstance(answer, Unknown)
        assert answer.nearest in {family.name for family in families()}


# Other formats


def gguf(path: Path, architecture: str, tensors: dict[str, tuple[int, ...]], cut: int = 0) -> Path:
    """A GGUF file with tensors of F16, which are zeros."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1)
    out += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    offset = 0
    for name, shape in tensors.items():
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", 1, offset)
        offset += -(-2 * math.prod(shape) // 32) * 32
    out += bytes(-len(out) % 32)
    path.write_bytes(out + bytes(offset - cut))
    return path


Z_MARKS: dict[str, tuple[int, ...]] = {
    "cap_embedder.0.weight": (2560,),
    "cap_embedder.1.bias": (3840,),
    "layers.0.adaLN_modulation.0.bias": (15360,),
    "noise_refiner.0.attention.k_norm.weight": (128,),
    "x_embedder.bias": (3840,),
}
QWEN_MARKS: dict[str, tuple[int, ...]] = {
    "blk.0.attn_q_norm.weight": (128,),
    "blk.0.ffn_gate.weight": (9728, 2),
    "output_norm.weight": (2560,),
}


def test_a_gguf_file_is_known_by_the_same_signatures_and_a_truncated_one_is_broken(tmp_path: Path) -> None:
    model = identify(gguf(tmp_path / "z.gguf", "lumina2", Z_MARKS), families())
    assert isinstance(model, Known), model.message
    assert (model.model.family, model.model.storage) == ("zimage", "gguf-F16")
    text = identify(gguf(tmp_path / "q.gguf", "qwen3", QWEN_MARKS), families())
    assert isinstance(text, Known), text.message
    assert (text.model.family, text.model.variant, text.model.layout) == ("qwen3", "4B", "llama.cpp")
    _, findings = check_model_file(tmp_path / "z.gguf")
    assert [finding.code for finding in findings] == ["SOS-G010", "SOS-F104", "SOS-F105"]
    answer, findings = check_model_file(gguf(tmp_path / "c.gguf", "lumina2", Z_MARKS, cut=64))
    assert isinstance(answer, Broken)
    assert [finding.code for finding in findings] == ["SOS-G005"]


# Findings


def test_a_dfloat11_file_is_named_with_its_loader_and_the_file_to_take(tmp_path: Path) -> None:
    header, _ = stripped("zimage-dfloat11")
    path = hollow(tmp_path / "z.safetensors", header)
    fill(path, header, [n for n, i in header.tensors.items() if i.offsets[1] - i.offsets[0] > 64])
    answer, findings = check_model_file(path)
    assert isinstance(answer, Known)
    assert codes(findings) == ["SOS-F103", "SOS-F106"]
    error = findings[0]
    assert error.severity == "error"
    assert "8.57 GB for 6,154,912,576 parameters, 12.31 GB in bf16" in error.message
    assert "ComfyUI-DFloat11-Extended" in error.message
    assert "z_image_bf16.safetensors" in error.hint


def test_dfloat11_is_named_in_a_file_of_an_unknown_family_too(tmp_path: Path) -> None:
    table = {
        "b.0.sign_mantissa": ("U8", (4096,)),
        "b.0.encoded_exponent": ("U8", (1500,)),
        "b.0.luts": ("U8", (4, 256)),
    }
    answer, findings = check_model_file(hollow(tmp_path / "m.safetensors", header_of(table)))
    assert isinstance(answer, Unknown)
    assert codes(findings) == ["SOS-F101", "SOS-F103"]


@pytest.mark.parametrize(
    "name", ["zimage-nvfp4", "zimage-fp8-scaled", "zimage-fp8-comfy", "zimage-bnb-nf4", "flux1-dev-svdquant"]
)
def test_a_quantised_file_is_a_warning_that_names_its_loader(tmp_path: Path, name: str) -> None:
    path = hollow(tmp_path / "m.safetensors", stripped(name)[0])
    _, findings = check_model_file(path)
    found = [finding for finding in findings if finding.code == "SOS-F104"]
    assert len(found) == 1
    assert found[0].severity == "warning"
    assert loader(EXPECTED[name][4]) in found[0].message


@pytest.mark.parametrize("name", ["zimage-single", "sdxl-unet", "vae-4"])
def test_a_plain_whole_file_has_no_finding_but_that_its_variant_is_shared(tmp_path: Path, name: str) -> None:
    header, _ = stripped(name)
    path = hollow(tmp_path / "m.safetensors", header)
    fill(path, header, list(header.tensors))
    assert codes(check_model_file(path)[1]) == (["SOS-F106"] if name == "zimage-single" else [])


def test_a_file_without_half_of_its_layers_is_a_warning_with_the_share_that_is_there(tmp_path: Path) -> None:
    header, _ = stripped("zimage-single")
    table = {n: t for n, t in table_of(header).items() if not n.startswith(("layers.2", "layers.1"))}
    _, findings = check_model_file(hollow(tmp_path / "m.safetensors", header_of(table)))
    message = next(finding.message for finding in findings if finding.code == "SOS-F105")
    assert "(35%)" in message
    assert "6,154,908,736" in message


def test_a_broken_an_unknown_an_ambiguous_and_a_missing_file_are_findings(tmp_path: Path) -> None:
    whole = hollow(tmp_path / "m.safetensors", stripped("vae-4")[0])
    with whole.open("r+b") as stream:
        stream.truncate(whole.stat().st_size - 5)
    answer, findings = check_model_file(whole)
    assert isinstance(answer, Broken)
    assert codes(findings) == ["SOS-F100"]
    assert "truncated" in findings[0].message
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html><html>")
    assert "web page" in check_model_file(tmp_path / "page.safetensors")[1][0].message
    _, findings = check_model_file(hollow(tmp_path / "u.safetensors", header_of({"x": ("F32", (2,))})))
    assert codes(findings) == ["SOS-F101"]
    both = {**table_of(stripped("clip-l")[0]), **table_of(stripped("vae-4")[0])}
    answer, findings = check_model_file(hollow(tmp_path / "b.safetensors", header_of(both)))
    assert isinstance(answer, Ambiguous)
    assert codes(findings)[0] == "SOS-F102"
    answer, findings = check_model_file(tmp_path / "nothing.safetensors")
    assert isinstance(answer, Broken)
    assert codes(findings) == ["SOS-F108"]


# Probes


@pytest.fixture
def vae(tmp_path: Path) -> tuple[Path, Header]:
    header, _ = stripped("vae-16")
    path = hollow(tmp_path / "m.safetensors", header)
    fill(path, header, list(header.tensors))
    return path, header


def test_a_file_of_finite_weights_gives_no_finding(vae: tuple[Path, Header]) -> None:
    assert probe(*vae) == []


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("BF16", struct.pack("<H", 0x7FC0)),
        ("BF16", struct.pack("<H", 0xFF80)),
        ("F16", struct.pack("<e", math.nan)),
        ("F16", struct.pack("<e", math.inf)),
        ("F32", struct.pack("<f", -math.inf)),
    ],
)
def test_a_single_nan_or_infinity_in_a_probed_tensor_is_an_error(tmp_path: Path, dtype: str, value: bytes) -> None:
    header = header_of(dict.fromkeys(("a.weight", "b.weight"), (dtype, (64, 64))))
    path = hollow(tmp_path / "m.safetensors", header)
    fill(path, header, list(header.tensors))
    assert probe(path, header) == []
    with path.open("r+b") as stream:
        start = 8 + int.from_bytes(stream.read(8), "little") + header.tensors["b.weight"].offsets[0]
        stream.seek(start + 40 * len(value))
        stream.write(value)
    found = probe(path, header)
    assert [(finding.code, finding.severity) for finding in found] == [("SOS-F120", "error")]
    assert "1 of 2 probed tensors (the first is 'b.weight')" in found[0].message


def test_a_file_of_zeros_is_an_error_and_a_hole_at_its_end_a_warning(vae: tuple[Path, Header], tmp_path: Path) -> None:
    path, header = vae
    empty = hollow(tmp_path / "empty.safetensors", header)
    assert [(f.code, f.severity) for f in probe(empty, header)] == [("SOS-F121", "error")]
    last = max((n for n in header.tensors if n.endswith("weight")), key=lambda n: header.tensors[n].offsets)
    fill(path, header, [last], b"\0")
    assert [(f.code, f.severity) for f in probe(path, header)] == [("SOS-F122", "warning")]


def test_a_probe_reads_few_bytes(vae: tuple[Path, Header], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(path: Path, offsets: tuple[int, int], limit: int) -> bytes:
        read.append(min(limit, offsets[1] - offsets[0]))
        return b"\x11" * read[-1]

    monkeypatch.setattr("sosie.doctor.model_probe.read_tensor", counting)
    probe(*vae)
    assert len(read) == SAMPLES
    assert max(read) <= 65_536


# Variants by fingerprint


def test_a_variant_that_the_user_has_named_once_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    header, _ = stripped("zimage")
    path, table = hollow(tmp_path / "m.safetensors", header), tmp_path / "sub" / "known.json"
    tensor = known(header).fingerprint
    weights = array.array("H", range(3840)).tobytes()
    fill(path, header, [tensor], weights)
    digest = fingerprint(path, header, tensor)
    answer, findings = check_model_file(path, table)
    assert isinstance(answer, Known)
    assert answer.model.variant == SHARED
    assert any(f.code == "SOS-F106" and digest[:16] in f.message for f in findings)
    remember(table, "zimage", digest, "De-Turbo")
    remember(table, "zimage", "0" * 64, "Turbo")
    answer, findings = check_model_file(path, table)
    assert isinstance(answer, Known)
    assert answer.model.variant == "De-Turbo"
    assert "SOS-F106" not in codes(findings)
    fill(path, header, [tensor], weights[::-1])
    assert fingerprint(path, header, tensor) != digest


def test_a_damaged_table_of_variants_is_a_finding_and_not_overwritten(tmp_path: Path) -> None:
    path, table = hollow(tmp_path / "m.safetensors", stripped("zimage")[0]), tmp_path / "known.json"
    for text in ("[]", "{", '{"zimage": 1}', '{"zimage": {"a": 1}}', "[" * 100_000):
        table.write_text(text)
        assert "SOS-F107" in codes(check_model_file(path, table)[1])
        with pytest.raises(ConfigError):
            remember(table, "zimage", "0" * 64, "Turbo")
        assert table.read_text() == text
    assert read_known(tmp_path / "nothing.json") == {}


def test_a_fingerprint_of_a_tensor_that_is_missing_or_large_is_refused(tmp_path: Path) -> None:
    header, _ = stripped("vae-4")
    path = hollow(tmp_path / "m.safetensors", header)
    with pytest.raises(BadModelError, match="no tensor 'x'"):
        fingerprint(path, header, "x")
    with pytest.raises(BadModelError, match="larger than"):
        fingerprint(path, header, "decoder.mid_block.resnets.0.conv1.weight")


def test_answers_hold_for_a_file_of_its_real_size(tmp_path: Path) -> None:
    path = hollow(tmp_path / "z_image_bf16.safetensors", stripped("zimage-single")[0])
    assert path.stat().st_size > 12.3e9
    answer = identify(path, families())
    assert isinstance(answer, Known)
    assert dataclasses.replace(answer.model, path=Path()) == dataclasses.replace(
        known(read_header(path)), path=Path(), bytes=path.stat().st_size
    )
