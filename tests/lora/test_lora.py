"""LoRA files: layouts, exact conversion, coverage, alpha, loaders, and input that means harm."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules import codes_in

from sosie.cli.lora import command
from sosie.core.errors import BadModelError, SosieError, UsageError
from sosie.doctor.loras import check_lora
from sosie.families import families
from sosie.families.zimage.adapters import variant_of
from sosie.lora import Lora, coverage, merging, outcomes, read
from sosie.lora import convert as conversion
from sosie.lora.coverage import base_header
from sosie.lora.layouts import take_apart
from sosie.lora.modules import Table, underscored

CODES = codes_in("doctor/loras.py")

pytestmark = pytest.mark.once

Tensors = dict[str, tuple[str, np.ndarray]]
QKV = tuple(f"layers.0.attention.to_{letter}" for letter in "qkv")
D = 6
FEED = 16
"""Widths of the small models here: a *reduced* Z-Image."""


def read_lora(path: Path) -> Lora:
    return read.read_lora(path, families())


def convert(path: Path, out: Path, to: str, overwrite: bool = False) -> conversion.Converted:
    return conversion.convert(read_lora(path), out, to, overwrite)


def merge_check(one: Path, other: Path, base: Path | None = None, weights: int = 3) -> merging.Merged:
    return merging.merge_check(read_lora(one), read_lora(other), base, weights)


def table_of(name: str) -> Table:
    table = next(family.adapters.table for family in families() if family.name == name)
    assert table is not None
    return table


# ---- a writer and a reader of their own, so that nothing is proven by the code under test


def bf16(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def stored(dtype: str, values: np.ndarray) -> tuple[str, np.ndarray]:
    if dtype == "BF16":
        return dtype, bf16(values)
    return dtype, values.astype({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype])


def save(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        table[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """Tensors as float64, dtypes, metadata."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    table = json.loads(raw[8 : 8 + length])
    metadata = table.pop("__metadata__", {})
    tensors, dtypes = {}, {}
    for name, entry in table.items():
        begin, end = entry["data_offsets"]
        piece = raw[8 + length + begin : 8 + length + end]
        if entry["dtype"] == "BF16":
            array = (np.frombuffer(piece, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            array = np.frombuffer(piece, {"F16": np.float16, "F32": np.float32, "F64": np.float64}[entry["dtype"]])
        tensors[name], dtypes[name] = array.reshape(entry["shape"]).astype(np.float64), entry["dtype"]
    return tensors, dtypes, metadata


def deltas(path: Path, peft_alpha: float | None = None) -> dict[str, np.ndarray]:
    """Each diffusers module's change, by textbook algebra in float64; exact for small whole numbers."""
    tensors, _, _ = load(path)
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        key = take_apart(name)
        assert key is not None
        found.setdefault(key.module + "|" + key.prefix.component, {})[key.role] = array
    table = table_of(read_lora(path).family)
    result: dict[str, np.ndarray] = {}
    for where, roles in found.items():
        module, part = where.rsplit("|", 1)
        if "w1_a" in roles:
            rank = roles["w1_b"].shape[0]
            change = (roles["w1_a"] @ roles["w1_b"]) * (roles["w2_a"] @ roles["w2_b"])
        elif "diff" in roles:
            rank, change = 1, roles["diff"]
        else:
            rank = roles["down"].shape[0]
            change = roles["up"].reshape(roles["up"].shape[0], -1) @ roles["down"].reshape(rank, -1)
        if "diff" not in roles:
            alpha = float(roles["alpha"]) if "alpha" in roles else peft_alpha or rank
            change = change * (alpha / rank)
        targets = table.find(part, module)  # type: ignore[arg-type]
        for target, piece in zip(targets, np.split(change, len(targets)), strict=True):
            assert target.name not in result, "changed twice"
            result[target.name] = piece
    return result


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Equal to the last bit; a module that is missing on one side must be zero on the other."""
    for name in one.keys() | other.keys():
        left, right = one.get(name), other.get(name)
        if left is None or right is None:
            assert not np.any(left if right is None else right), name
        else:
            assert np.array_equal(left.astype(np.float32), right.astype(np.float32)), name


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small whole numbers: exact in bf16, and their sums in float64."""
    return rng.integers(-8, 9, shape).astype(np.float64)


STYLES = {
    "A": (".lora_A.weight", ".lora_B.weight"),
    "default": (".lora_A.default.weight", ".lora_B.default.weight"),
    "down": (".lora_down.weight", ".lora_up.weight"),
    "dots": (".lora.down.weight", ".lora.up.weight"),
}
PREFIXES = {
    "comfy": "diffusion_model.",
    "diffusers": "transformer.",
    "bare": "",
    "peft": "base_model.model.",
    "kohya": "lora_unet_",
    "lycoris": "lycoris_",
}


def zimage(
    rng: np.random.Generator,
    naming: str = "comfy",
    style: str = "A",
    alpha: float | None = None,
    modules: dict[str, int] | None = None,
    dtype: str = "BF16",
) -> Tensors:
    """A LoRA for a reduced Z-Image: `modules` by diffusers' or the single file's name, with ranks."""
    tensors: Tensors = {}
    for name, rank in (modules or {**dict.fromkeys(QKV, 2), "layers.0.attention.to_out.0": 2}).items():
        rows = 3 * D if name.endswith("qkv") else FEED if name.endswith("w1") else D
        flat = underscored(name) if naming in ("kohya", "lycoris") else name
        stem = PREFIXES[naming] + flat
        down, up = STYLES[style]
        tensors[stem + down] = stored(dtype, whole(rng, rank, D))
        tensors[stem + up] = stored(dtype, whole(rng, rows, rank))
        if alpha is not None:
            tensors[stem + ".alpha"] = ("F32", np.array(alpha, np.float32))
    return tensors


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def sparse(path: Path, names: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    """A file of real size that takes no room: its header is real, its tensors are a hole of zeros."""
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in names.items():
        size = 2 * math.prod(shape)
        table[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(table).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(head)) + head)
        stream.truncate(8 + len(head) + end)
    return path


def real(family: str, stem: Callable[[str, str, str], str | None], rank: int = 32) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a real LoRA: `stem(part, name, single)` gives a module's name, or None to leave it out."""
    table = table_of(family)
    names: dict[str, tuple[int, ...]] = {}
    for module in table.modules:
        if name := stem(module.component, module.name, module.single):
            rows = module.shape[0]
            names[f"{name}.lora_A.weight"] = (rank, *module.shape[1:])
            names[f"{name}.lora_B.weight"] = (rows, rank, *(1 for _ in module.shape[2:]))
    return names


def ai_toolkit(_: str, name: str, __: str) -> str | None:
    return f"diffusion_model.{name}" if name.startswith("layers.") else None


def codes(path: Path, **options: Any) -> dict[str, str]:
    """Severity of each finding by code; every code is documented."""
    found = check_lora(path, **options)
    assert {finding.code for finding in found} <= CODES
    return {finding.code: finding.severity for finding in found}


# ---- the story: "incompatible: layers.* against context_refiner.*"


def test_the_lora_of_that_week_matches_with_480_of_480_tensors_and_loads_as_is(tmp_path: Path) -> None:
    path = sparse(tmp_path / "elena.safetensors", real("zimage", ai_toolkit))
    lora = read_lora(path)
    assert (lora.family, lora.variant, lora.ranks, lora.alpha_source) == ("zimage", "base", (32,), "none")
    assert (lora.layout.naming, lora.layout.style, lora.layout.fusion) == ("comfy", "lora_A", "split")
    found = coverage(lora, table_of("zimage"))
    assert (found.matched, found.total) == (480, 480)
    assert len(found.untouched) == 276 - 240
    assert any(name.startswith("context_refiner.") for name in found.untouched)
    text = next(f.message for f in check_lora(path, "zimage") if f.code == "SOS-L005")
    assert "480 of 480 tensors match" in text
    assert "split" in text
    assert "ComfyUI, diffusers 0.42" in text


def test_the_same_lora_matches_a_fused_single_file_and_a_split_folder(tmp_path: Path) -> None:
    lora = read_lora(sparse(tmp_path / "lora.safetensors", real("zimage", ai_toolkit)))
    table = table_of("zimage")
    split = {f"{m.name}.weight": m.shape for m in table.modules}
    fused: dict[str, tuple[int, ...]] = {}
    for m in table.modules:
        rows = 3 * m.shape[0] if m.part is not None else m.shape[0]
        fused[f"model.diffusion_model.{m.single}.weight"] = (rows, *m.shape[1:])
    folder = tmp_path / "pipeline" / "transformer"
    folder.mkdir(parents=True)
    sparse(folder / "part.safetensors", split)
    for base in (sparse(tmp_path / "fused.safetensors", fused), folder.parent):
        found = coverage(lora, base_header(base))
        assert (found.matched, found.total, found.foreign, found.misfits) == (480, 480, (), ())


def test_a_lora_that_covers_a_part_of_the_base_says_which_part(tmp_path: Path) -> None:
    lora = sparse(tmp_path / "lora.safetensors", real("zimage", ai_toolkit))
    table = table_of("zimage")
    shapes = {f"{m.name}.weight": m.shape for m in table.modules if not m.name.startswith("layers.29.")}
    shapes["layers.0.feed_forward.w1.weight"] = (10240, 1024)
    base = sparse(tmp_path / "base.safetensors", shapes)
    found = coverage(read_lora(lora), base_header(base))
    assert (found.matched, found.total) == (480 - 2 * 8 - 2, 480)
    assert found.misfits == ("diffusion_model.layers.0.feed_forward.w1",)
    assert all(name.startswith("diffusion_model.layers.29.") for name in found.foreign)
    assert "layers.0.feed_forward.w1" in found.untouched
    assert codes(lora, base=base)["SOS-L004"] == "warning"
    nothing = sparse(tmp_path / "vae.safetensors", {"decoder.conv_in.weight": (512, 16, 3, 3)})
    assert codes(lora, base=nothing)["SOS-L003"] == "error"


# ---- who wrote it


def sdxl_kohya(part: str, _: str, single: str) -> str | None:
    prefix = {"denoiser": "lora_unet_", "text-encoder": "lora_te1_", "text-encoder-2": "lora_te2_"}[part]
    return prefix + underscored(single) if "attn" in single else None


def sdxl_diffusers(part: str, name: str, _: str) -> str | None:
    prefix = {"denoiser": "unet.", "text-encoder": "text_encoder.", "text-encoder-2": "text_encoder_2."}[part]
    return prefix + name if "attn" in name else None


def test_sdxl_loras_are_known_under_kohyas_names_and_under_those_of_diffusers(tmp_path: Path) -> None:
    for stem, naming in ((sdxl_kohya, "kohya"), (sdxl_diffusers, "diffusers")):
        lora = read_lora(sparse(tmp_path / f"{naming}.safetensors", real("sdxl", stem, 4)))
        assert (lora.family, lora.variant, lora.layout.naming) == ("sdxl", "base", naming)
        found = coverage(lora, table_of("sdxl"))
        assert (found.matched, found.total) == (found.total, 2 * (560 + 12 * 4 + 32 * 4))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora_unet_layers_0_attention_qkv.lora_down.weight", ("kohya", "layers_0_attention_qkv", "down")),
        (
            "lora_te2_text_model_encoder_layers_3_mlp_fc1.alpha",
            ("kohya", "text_model_encoder_layers_3_mlp_fc1", "alpha"),
        ),
        ("diffusion_model.layers.0.attention.to_q.lora_A.weight", ("comfy", QKV[0], "down")),
        ("transformer.layers.0.attention.to_q.lora_B.weight", ("diffusers", QKV[0], "up")),
        ("base_model.model.layers.0.attention.to_q.lora_A.some_name.weight", ("peft", QKV[0], "down")),
        ("unet.mid.attn1.processor.to_out_lora.up.weight", ("diffusers", "mid.attn1.to_out.0", "up")),
        ("lycoris_layers_0_attention_to_q.lokr_w2_a", ("lycoris", "layers_0_attention_to_q", "k2_a")),
        ("layers.0.attention.to_q.hada_w1_b", ("bare", QKV[0], "w1_b")),
        ("layers.0.attention.to_q.magnitude", ("bare", QKV[0], "dora")),
        ("layers.0.attention.to_q.weight", None),
        (".lora_A.weight", None),
    ],
)
def test_every_trainers_spelling_of_a_tensor_is_taken_apart(name: str, expected: tuple[str, str, str] | None) -> None:
    key = take_apart(name)
    assert (key and (key.prefix.naming, key.module, key.role)) == expected


def test_a_lora_of_an_unknown_family_says_what_it_is_made_of_and_is_no_error(tmp_path: Path) -> None:
    names: dict[str, tuple[int, ...]] = {}
    for index in range(12):
        names[f"diffusion_model.towers.{index}.mix.lora_A.weight"] = (4, 320)
        names[f"diffusion_model.towers.{index}.mix.lora_B.weight"] = (320, 4)
    path = sparse(tmp_path / "x.safetensors", names)
    lora = read_lora(path)
    assert (lora.family, lora.nearest) == ("", "")
    assert "12 of towers, 320 wide" in lora.because
    assert codes(path)["SOS-L002"] == "info"
    with pytest.raises(UsageError, match="unknown model"):
        convert(path, tmp_path / "out.safetensors", "comfy")


def test_names_of_sdxl_with_the_widths_of_sd15_are_not_sdxl(tmp_path: Path) -> None:
    stem = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    for width, family in ((768, "sd1"), (1024, "sd2"), (2048, "sdxl")):
        names = {f"{stem}.lora_down.weight": (4, width), f"{stem}.lora_up.weight": (640, 4)}
        assert read_lora(sparse(tmp_path / f"{width}.safetensors", names)).family == family


def test_lumina_has_z_images_names_but_not_its_width(tmp_path: Path) -> None:
    stem = "diffusion_model.layers.0.attention.qkv"
    for rows, width, family in ((3840, 2304, "lumina2"), (11520, 3840, "zimage")):
        names = {f"{stem}.lora_A.weight": (4, width), f"{stem}.lora_B.weight": (rows, 4)}
        assert read_lora(sparse(tmp_path / f"{width}.safetensors", names)).family == family


# ---- conversion is exact


@st.composite
def loras(draw: st.DrawFn) -> tuple[Tensors, dict[str, str]]:
    """Z-Image LoRAs in every naming, split or fused, ranks that differ, parts missing, alpha or none."""
    naming = draw(st.sampled_from(sorted(PREFIXES)))
    style = "down" if naming in ("kohya", "lycoris") else draw(st.sampled_from(sorted(STYLES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    modules: dict[str, int] = {}
    for layer in range(draw(st.integers(1, 2))):
        block = f"layers.{layer}"
        if draw(st.booleans()):
            for letter in draw(st.lists(st.sampled_from("qkv"), unique=True)):
                modules[f"{block}.attention.to_{letter}"] = draw(st.integers(1, 4))
        else:
            modules[f"{block}.attention.qkv"] = draw(st.integers(1, 4))
        modules[f"{block}.attention.{draw(st.sampled_from(['out', 'to_out.0']))}"] = draw(st.integers(1, 4))
        modules[f"{block}.feed_forward.w2"] = draw(st.integers(1, 4))
    tensors = zimage(rng, naming, style, None, modules, draw(st.sampled_from(["BF16", "F16", "F32"])))
    scale = draw(st.sampled_from([None, 1.0, 0.5, 2.0, 0.375]))
    if scale is not None:
        down = STYLES[style][0]
        for name in [name for name in tensors if name.endswith(down)]:
            rank = tensors[name][1].shape[0]
            tensors[name.removesuffix(down) + ".alpha"] = ("F32", np.array(scale * rank, np.float32))
    return tensors, {"ss_tag": "kept", "modelspec.title": "x"}


EVERY = ("comfy", "diffusers", "kohya", "split", "fused")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=loras(), first=st.sampled_from(EVERY), second=st.sampled_from(EVERY))
def test_every_conversion_and_every_way_back_keeps_each_change_to_the_last_bit(
    tmp_path: Path, made: tuple[Tensors, dict[str, str]], first: str, second: str
) -> None:
    tensors, metadata = made
    source = save(tmp_path / "in.safetensors", tensors, metadata)
    once, twice = tmp_path / "once.safetensors", tmp_path / "twice.safetensors"
    try:
        convert(source, once, first, overwrite=True)
        convert(once, twice, second, overwrite=True)
    except UsageError as error:
        refusal = error.message
    else:
        refusal = ""
    if refusal:
        # Only a factor that is no power of two, in the one layout that has no place for alpha.
        assert "rounded" in refusal
        assert "diffusers" in (first, second)
        assert any(scale not in (0.5, 1, 2) for scale in read_lora(source).scales)
        return
    before = deltas(source)
    for path in (once, twice):
        assert_same(before, deltas(path))
        _, dtypes, kept = load(path)
        assert metadata.items() <= kept.items()
        assert {d for n, d in dtypes.items() if not n.endswith(".alpha")} == {d for d, a in tensors.values() if a.ndim}
    assert read_lora(twice).layout.naming == {"kohya": "kohya", "diffusers": "diffusers"}.get(second, "comfy")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from(["BF16", "F16", "F32"]), rank=st.integers(1, 7))
def test_merging_proves_fused_equal_to_split_with_any_numbers(tmp_path: Path, seed: int, dtype: str, rank: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = {
        name: stored(dtype, rng.normal(size=array.shape)) if array.ndim else (kind, array)
        for name, (kind, array) in zimage(rng, alpha=3.7, modules=dict.fromkeys(QKV, rank)).items()
    }
    source = save(tmp_path / "in.safetensors", tensors)
    base = save(
        tmp_path / "base.safetensors", {"layers.0.attention.qkv.weight": stored("BF16", rng.normal(size=(3 * D, D)))}
    )
    fused = tmp_path / "fused.safetensors"
    convert(source, fused, "kohya", overwrite=True)
    merged = merge_check(source, fused, base)
    assert (merged.error, merged.numbers, merged.modules) == (0.0, 3 * D * D, QKV[1:2] + QKV[:1] + QKV[2:])


def test_the_merge_check_sees_a_wrong_alpha(tmp_path: Path, rng: np.random.Generator) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng, alpha=2.0))
    other = save(tmp_path / "other.safetensors", zimage(np.random.default_rng(7), alpha=1.0))
    assert merge_check(source, other).error > 0


def test_nan_and_infinity_in_bf16_are_moved_bit_for_bit(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = zimage(rng)
    name = "diffusion_model.layers.0.attention.to_q.lora_B.weight"
    tensors[name][1][0, 0], tensors[name][1][1, 1] = 0x7FC1, 0xFF80
    source = save(tmp_path / "in.safetensors", tensors)
    convert(source, tmp_path / "fused.safetensors", "fused")
    convert(tmp_path / "fused.safetensors", tmp_path / "back.safetensors", "split")
    raw = (tmp_path / "back.safetensors").read_bytes()
    head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])[name]["data_offsets"]
    start = 8 + int.from_bytes(raw[:8], "little")
    piece = np.frombuffer(raw[start + head[0] : start + head[1]], np.uint16).reshape(D, -1)
    assert (piece[0, 0], piece[1, 1]) == (0x7FC1, 0xFF80)


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
def test_sdxl_with_convolutions_and_text_encoders_goes_there_and_back(
    tmp_path: Path, rng: np.random.Generator, to: str
) -> None:
    tensors: Tensors = {}
    for stem, shape in (
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", (D, D)),
        ("lora_unet_input_blocks_4_0_in_layers_2", (D, 4, 3, 3)),
        ("lora_te2_text_model_encoder_layers_31_mlp_fc1", (D, D)),
    ):
        tensors[f"{stem}.lora_down.weight"] = stored("F16", whole(rng, 2, *shape[1:]))
        tensors[f"{stem}.lora_up.weight"] = stored("F16", whole(rng, shape[0], 2, *(1 for _ in shape[2:])))
        tensors[f"{stem}.alpha"] = ("F16", np.array(1.0, np.float16))
    source = save(tmp_path / "in.safetensors", tensors)
    convert(source, tmp_path / "there.safetensors", to)
    convert(tmp_path / "there.safetensors", tmp_path / "back.safetensors", "kohya")
    assert_same(deltas(source), deltas(tmp_path / "there.safetensors"))
    assert_same(deltas(source), deltas(tmp_path / "back.safetensors"))
    there, _, _ = load(tmp_path / "there.safetensors")
    if to == "diffusers":
        assert "unet.down_blocks.1.resnets.0.conv1.lora_A.weight" in there
        assert "text_encoder_2.text_model.encoder.layers.31.mlp.fc1.lora_B.weight" in there
        assert not any(name.endswith(".alpha") for name in there)


def loha(rng: np.random.Generator, modules: dict[str, int], alpha: float) -> Tensors:
    tensors: Tensors = {}
    for name, rank in modules.items():
        rows = 3 * D if name.endswith("qkv") else D
        stem = f"diffusion_model.{name}"
        for factor in "12":
            tensors[f"{stem}.hada_w{factor}_a"] = stored("BF16", whole(rng, rows, rank))
            tensors[f"{stem}.hada_w{factor}_b"] = stored("BF16", whole(rng, rank, D))
        tensors[f"{stem}.alpha"] = ("F32", np.array(alpha, np.float32))
    return tensors


@pytest.mark.parametrize("modules", [dict.fromkeys(QKV, 3), {"layers.0.attention.qkv": 3}, {QKV[0]: 2, QKV[2]: 2}])
def test_loha_is_fused_block_by_block_and_split_by_rows(
    tmp_path: Path, rng: np.random.Generator, modules: dict[str, int]
) -> None:
    source = save(tmp_path / "in.safetensors", loha(rng, modules, 1.5))
    for to in ("fused", "split", "kohya"):
        out = tmp_path / f"{to}.safetensors"
        convert(source, out, to)
        assert_same(deltas(source), deltas(out))
    with pytest.raises(UsageError, match="diffusers does not read loha"):
        convert(source, tmp_path / "no.safetensors", "diffusers")


# ---- alpha is never halved or tripled by accident


def test_fusing_triples_alpha_with_the_rank(tmp_path: Path, rng: np.random.Generator) -> None:
    done = convert(save(tmp_path / "in.safetensors", zimage(rng, alpha=1.0)), tmp_path / "out.safetensors", "fused")
    tensors, _, _ = load(done.path)
    stem = "diffusion_model.layers.0.attention.qkv"
    assert tensors[f"{stem}.lora_A.weight"].shape == (6, D)
    assert float(tensors[f"{stem}.alpha"]) == 3.0
    assert float(tensors["diffusion_model.layers.0.attention.out.alpha"]) == 1.0
    assert any("rank 2 became 6" in note for note in done.notes)


def test_what_was_fused_comes_apart_again_tensor_for_tensor_with_its_rank_and_alpha(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng, alpha=1.0))
    convert(source, tmp_path / "fused.safetensors", "fused")
    done = convert(tmp_path / "fused.safetensors", tmp_path / "back.safetensors", "split")
    before, after = load(source), load(done.path)
    assert {name: array.tolist() for name, array in after[0].items()} == {
        name: array.tolist() for name, array in before[0].items()
    }
    assert after[1] == before[1]
    assert "rank 6 became 2: fused q, k, v were three blocks with zeros between them" in done.notes


@pytest.mark.parametrize("damage", ["a number between the blocks", "infinity in the shared factor", "another rank"])
def test_what_is_no_diagonal_of_three_equal_blocks_keeps_its_rank(
    tmp_path: Path, rng: np.random.Generator, damage: str
) -> None:
    ranks = {"layers.0.attention.qkv": 4 if damage == "another rank" else 6}
    tensors = zimage(rng, modules=ranks)
    stem = "diffusion_model.layers.0.attention.qkv"
    up, down = tensors[f"{stem}.lora_B.weight"][1], tensors[f"{stem}.lora_A.weight"][1]
    for i in range(3):
        for j in range(3):
            if i != j:
                up[i * D : (i + 1) * D, j * 2 : (j + 1) * 2] = 0
    if damage == "a number between the blocks":
        up[D, 0] = 0x3F80
    elif damage == "infinity in the shared factor":
        down[0, 0] = 0x7F80
    done = convert(save(tmp_path / "in.safetensors", tensors), tmp_path / "out.safetensors", "split")
    name = "diffusion_model.layers.0.attention.to_k.lora_A.weight"
    assert load(done.path)[0][name].shape == (ranks["layers.0.attention.qkv"], D)
    assert done.notes == ()


def test_loha_that_was_fused_comes_apart_with_its_rank(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors: Tensors = {}
    for name in QKV:
        for factor in "12":
            tensors[f"diffusion_model.{name}.hada_w{factor}_a"] = stored("BF16", whole(rng, D, 2))
            tensors[f"diffusion_model.{name}.hada_w{factor}_b"] = stored("BF16", whole(rng, 2, D))
    source = save(tmp_path / "in.safetensors", tensors)
    convert(source, tmp_path / "fused.safetensors", "fused")
    back = convert(tmp_path / "fused.safetensors", tmp_path / "back.safetensors", "split").path
    before, after = load(source)[0], load(back)[0]
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_splitting_keeps_alpha_and_rank(tmp_path: Path, rng: np.random.Generator) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng, "kohya", "down", 1.0, {"layers.0.attention.qkv": 2}))
    convert(source, tmp_path / "out.safetensors", "split")
    tensors, _, _ = load(tmp_path / "out.safetensors")
    assert float(tensors["diffusion_model.layers.0.attention.to_k.alpha"]) == 1.0
    assert tensors["diffusion_model.layers.0.attention.to_k.lora_A.weight"].shape == (2, D)


def test_scales_of_q_k_v_that_differ_by_a_power_of_two_become_one_others_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    tensors = zimage(rng, alpha=2.0, modules=dict.fromkeys(QKV, 2))
    tensors["diffusion_model.layers.0.attention.to_k.alpha"] = ("F32", np.array(0.5, np.float32))
    source = save(tmp_path / "in.safetensors", tensors)
    convert(source, tmp_path / "out.safetensors", "fused")
    assert_same(deltas(source), deltas(tmp_path / "out.safetensors"))
    tensors["diffusion_model.layers.0.attention.to_k.alpha"] = ("F32", np.array(0.6, np.float32))
    source = save(tmp_path / "in.safetensors", tensors)
    with pytest.raises(UsageError, match="rounded"):
        convert(source, tmp_path / "no.safetensors", "fused")
    assert not (tmp_path / "no.safetensors").exists()


def test_a_stated_alpha_of_16_without_an_alpha_tensor_was_never_applied_and_is_never_written(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng), {"ss_network_alpha": "16", "ss_network_dim": "32"})
    assert codes(source)["SOS-L010"] == "warning"
    assert read_lora(source).alpha_source == "none"
    convert(source, tmp_path / "out.safetensors", "kohya")
    tensors, _, _ = load(tmp_path / "out.safetensors")
    assert float(tensors["lora_unet_layers_0_attention_out.alpha"]) == 2.0, "alpha = rank"
    assert_same(deltas(source), deltas(tmp_path / "out.safetensors"))


def peft(**values: Any) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in values.items()})}


def test_alpha_in_the_metadata_only_becomes_a_tensor_and_the_metadata_no_longer_doubles_it(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng, "diffusers"), peft(lora_alpha=1, r=2))
    assert codes(source)["SOS-L011"] == "warning"
    assert read_lora(source).scales == (0.5,)
    for to in ("comfy", "diffusers", "kohya"):
        done = convert(source, tmp_path / f"{to}.safetensors", to)
        assert any("metadata only" in note for note in done.notes)
        assert_same(deltas(source, peft_alpha=1.0), deltas(done.path))
        _, _, metadata = load(done.path)
        assert "lora_adapter_metadata" not in metadata
        assert metadata["sosie.source.lora_adapter_metadata"]
        assert "SOS-L011" not in codes(done.path)


def test_an_exception_in_the_alpha_pattern_counts_for_its_module_alone(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    metadata = peft(lora_alpha=2, alpha_pattern={"^layers.0.attention.to_q": 4, "to_k": 1})
    lora = read_lora(save(tmp_path / "in.safetensors", zimage(rng, "diffusers"), metadata))
    by_module = {adapter.module: lora.alpha(adapter).value for adapter in lora.adapters}
    assert [by_module[name] for name in QKV] == [4, 1, 2]


def test_rslora_is_converted_where_the_root_is_whole_and_refused_elsewhere(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    metadata = peft(lora_alpha=2, use_rslora=True)
    four = save(tmp_path / "4.safetensors", zimage(rng, "diffusers", modules={QKV[0]: 4}), metadata)
    assert read_lora(four).scales == (1.0,), "2 / sqrt(4)"
    convert(four, tmp_path / "out.safetensors", "comfy")
    two = save(tmp_path / "2.safetensors", zimage(rng, "diffusers", modules={QKV[0]: 2}), metadata)
    assert codes(two)["SOS-L014"] == "warning"
    with pytest.raises(UsageError, match=r"sqrt\(2\)"):
        convert(two, tmp_path / "no.safetensors", "comfy")


def test_alpha_as_a_tensor_against_alpha_in_the_metadata_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    assert codes(save(tmp_path / "a.safetensors", zimage(rng, alpha=1.0), peft(lora_alpha=2)))["SOS-L012"] == "warning"
    assert "SOS-L012" not in codes(save(tmp_path / "b.safetensors", zimage(rng, alpha=2.0), peft(lora_alpha=2)))


@pytest.mark.parametrize("alpha", [0.0, math.nan, math.inf, -1.0])
def test_an_alpha_that_is_no_positive_number_is_an_error(
    tmp_path: Path, rng: np.random.Generator, alpha: float
) -> None:
    assert codes(save(tmp_path / "a.safetensors", zimage(rng, alpha=alpha)))["SOS-L013"] == "error"


# ---- what algebra does not allow is refused, with the reason


def dora(rng: np.random.Generator, shape: tuple[int, ...], names: tuple[str, ...] = QKV) -> Tensors:
    tensors = zimage(rng, alpha=2.0, modules=dict.fromkeys(names, 2))
    for name in names:
        tensors[f"diffusion_model.{name}.dora_scale"] = stored("BF16", whole(rng, *shape))
    return tensors


def test_dora_by_row_is_fused_and_split_and_by_column_it_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    source = save(tmp_path / "in.safetensors", dora(rng, (D, 1)))
    convert(source, tmp_path / "fused.safetensors", "fused")
    convert(tmp_path / "fused.safetensors", tmp_path / "back.safetensors", "split")
    before, (fused, _, _), (after, _, _) = (
        load(source)[0],
        load(tmp_path / "fused.safetensors"),
        load(tmp_path / "back.safetensors"),
    )
    names = [f"diffusion_model.{name}.dora_scale" for name in QKV]
    assert np.array_equal(
        fused["diffusion_model.layers.0.attention.qkv.dora_scale"], np.concatenate([before[n] for n in names])
    )
    assert all(np.array_equal(before[name], after[name]) for name in names)
    base = save(
        tmp_path / "base.safetensors", {"layers.0.attention.qkv.weight": stored("F32", rng.normal(size=(3 * D, D)))}
    )
    assert merge_check(source, tmp_path / "fused.safetensors", base).error == 0.0
    columns = save(tmp_path / "columns.safetensors", dora(rng, (1, D)))
    convert(columns, tmp_path / "moved.safetensors", "comfy")
    with pytest.raises(UsageError, match="a fused DoRA is not expressible, it needs one magnitude a row"):
        convert(columns, tmp_path / "no.safetensors", "fused")
    partial = save(tmp_path / "partial.safetensors", dora(rng, (D, 1), QKV[:2]))
    with pytest.raises(UsageError, match="needs all of q, k and v"):
        convert(partial, tmp_path / "no.safetensors", "fused")


def test_magnitudes_of_ai_toolkit_become_a_dora_scale_by_row(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = zimage(rng, modules={QKV[0]: 2})
    tensors[f"diffusion_model.{QKV[0]}.magnitude"] = stored("F32", np.arange(float(D)))
    source = save(tmp_path / "in.safetensors", tensors)
    assert read_lora(source).algorithms == ("dora",)
    convert(source, tmp_path / "out.safetensors", "comfy")
    tensor = load(tmp_path / "out.safetensors")[0][f"diffusion_model.{QKV[0]}.dora_scale"]
    assert np.array_equal(tensor, np.arange(float(D))[:, None])


def lokr(rng: np.random.Generator, names: tuple[str, ...], rows: int, low: bool) -> Tensors:
    tensors: Tensors = {}
    for name in names:
        stem = f"diffusion_model.{name}"
        tensors[f"{stem}.lokr_w1"] = stored("BF16", whole(rng, rows, 2))
        if low:
            tensors[f"{stem}.lokr_w2_a"] = stored("BF16", whole(rng, D // 2, 1))
            tensors[f"{stem}.lokr_w2_b"] = stored("BF16", whole(rng, 1, D // 2))
        else:
            tensors[f"{stem}.lokr_w2"] = stored("BF16", whole(rng, D // 2, D // 2))
    return tensors


@pytest.mark.parametrize("low", [True, False])
def test_lokr_is_moved_but_not_fused(tmp_path: Path, rng: np.random.Generator, low: bool) -> None:
    source = save(tmp_path / "in.safetensors", lokr(rng, QKV, 2, low))
    convert(source, tmp_path / "out.safetensors", "comfy")
    assert merge_check(source, tmp_path / "out.safetensors").error == 0.0
    with pytest.raises(UsageError, match="Kronecker products do not stack"):
        convert(source, tmp_path / "no.safetensors", "fused")


def test_fused_lokr_is_split_where_w1_has_three_equal_parts_of_rows(tmp_path: Path, rng: np.random.Generator) -> None:
    source = save(tmp_path / "in.safetensors", lokr(rng, ("layers.0.attention.qkv",), 6, False))
    convert(source, tmp_path / "out.safetensors", "split")
    assert merge_check(source, tmp_path / "out.safetensors").error == 0.0
    before, after = load(source)[0], load(tmp_path / "out.safetensors")[0]
    full = np.kron(*(before[f"diffusion_model.layers.0.attention.qkv.lokr_w{i}"] for i in "12"))
    parts = [np.kron(*(after[f"diffusion_model.{name}.lokr_w{i}"] for i in "12")) for name in QKV]
    assert np.array_equal(full, np.concatenate(parts))


def test_fused_lokr_is_refused_where_w1_does_not_part_into_three(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors: Tensors = {
        "diffusion_model.layers.0.attention.qkv.lokr_w1": stored("F32", whole(rng, 2, 2)),
        "diffusion_model.layers.0.attention.qkv.lokr_w2": stored("F32", whole(rng, 3 * D // 2, D // 2)),
    }
    source = save(tmp_path / "in.safetensors", tensors)
    with pytest.raises(UsageError, match="w1 has 2 rows, which its parts do not share"):
        convert(source, tmp_path / "no.safetensors", "comfy")


def test_q_k_v_that_differ_in_dtype_algorithm_or_size_are_not_fused(tmp_path: Path, rng: np.random.Generator) -> None:
    first = zimage(rng, modules={QKV[0]: 2})
    stem = f"diffusion_model.{QKV[1]}"
    wide = {
        f"{stem}.lora_A.weight": stored("BF16", whole(rng, 2, D + 1)),
        f"{stem}.lora_B.weight": stored("BF16", whole(rng, D, 2)),
    }
    for other, why in (
        (zimage(rng, modules={QKV[1]: 2}, dtype="F16"), "dtype"),
        (loha(rng, {QKV[1]: 2}, 2.0), "algorithm"),
        (wide, "size"),
    ):
        source = save(tmp_path / "in.safetensors", first | other)
        with pytest.raises(UsageError, match=f"differ in their {why}"):
            convert(source, tmp_path / "no.safetensors", "fused")


def test_an_alpha_in_the_metadata_that_is_no_finite_number_does_not_count(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    metadata = {"lora_adapter_metadata": '{"transformer.lora_alpha": 1e999}', "ss_network_alpha": "nan"}
    lora = read_lora(save(tmp_path / "in.safetensors", zimage(rng, "diffusers"), metadata))
    assert (lora.alpha_source, lora.scales, lora.training.alpha) == ("none", (1.0,), None)


def test_an_alpha_of_several_numbers_is_named_and_not_used(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = zimage(rng, modules={QKV[0]: 2})
    tensors[f"diffusion_model.{QKV[0]}.alpha"] = stored("F32", np.ones(2))
    path = save(tmp_path / "in.safetensors", tensors)
    assert "alpha is not one number but [2]" in {f.code: f.message for f in check_lora(path)}["SOS-L030"]


def test_metadata_that_means_harm_is_cleaned_or_passed_over(tmp_path: Path, rng: np.random.Generator) -> None:
    metadata = {"ss_sd_model_name": "\x1b[2Jevil\u202e" + "x" * 500, "ss_tag_frequency": "[" * 100_000}
    training = read_lora(save(tmp_path / "in.safetensors", zimage(rng), metadata)).training
    assert training.base.startswith("[2Jevil x")
    assert len(training.base) == 80
    assert training.triggers == ()


def test_nothing_is_lost_in_silence(tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = {**zimage(rng), "surprise": stored("BF16", whole(rng, 2, D))}
    kept = convert(save(tmp_path / "in.safetensors", tensors), tmp_path / "kept.safetensors", "kohya")
    assert np.array_equal(load(kept.path)[0]["surprise"], load(tmp_path / "in.safetensors")[0]["surprise"])
    assert "1 tensors are in the new file as they were, first surprise" in kept.notes[0]
    half = {**zimage(rng), "diffusion_model.layers.1.attention.to_q.lora_A.weight": stored("BF16", whole(rng, 2, D))}
    with pytest.raises(UsageError, match="missing beside"):
        convert(save(tmp_path / "in.safetensors", half), tmp_path / "no.safetensors", "comfy")
    both = zimage(rng, modules={QKV[0]: 2, "layers.0.attention.qkv": 2})
    source = save(tmp_path / "in.safetensors", both)
    assert codes(source)["SOS-L032"] == "error"
    with pytest.raises(UsageError, match="changed twice"):
        convert(source, tmp_path / "no.safetensors", "comfy")
    again = zimage(rng, "comfy", modules={QKV[0]: 2}) | zimage(rng, "bare", modules={QKV[0]: 2})
    with pytest.raises(UsageError, match="changed twice"):
        convert(save(tmp_path / "in.safetensors", again), tmp_path / "no.safetensors", "comfy")
    many = zimage(rng, modules={f"layers.{i}.attention.to_q": 1 for i in range(20)} | {"layers.99.attention.to_q": 1})
    source = save(tmp_path / "in.safetensors", many)
    assert codes(source)["SOS-L004"] == "warning"
    convert(source, tmp_path / "many.safetensors", "kohya")
    before, after = load(source)[0], load(tmp_path / "many.safetensors")[0]
    stranger = "diffusion_model.layers.99.attention.to_q.lora_B.weight"
    assert np.array_equal(after[stranger], before[stranger])
    sdxl = sparse(tmp_path / "sdxl.safetensors", real("sdxl", sdxl_kohya, 1))
    with pytest.raises(UsageError, match="never fused"):
        convert(sdxl, tmp_path / "no.safetensors", "fused")
    assert not list(tmp_path.glob("*no.safetensors*"))


def test_a_file_is_replaced_only_when_asked_and_only_as_a_whole(tmp_path: Path, rng: np.random.Generator) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng, alpha=0.75))
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        convert(source, out, "comfy")
    with pytest.raises(UsageError, match="rounded"):
        convert(source, out, "diffusers", overwrite=True)
    assert out.read_text() == "mine"
    convert(source, out, "comfy", overwrite=True)
    assert_same(deltas(source), deltas(out))
    convert(source, source, "comfy", overwrite=True)
    assert_same(deltas(source), deltas(out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.safetensors", "out.safetensors"]


def test_folding_refuses_numbers_that_would_leave_their_dtype(tmp_path: Path) -> None:
    tensors: Tensors = {
        f"diffusion_model.{QKV[0]}.lora_A.weight": stored("F16", np.ones((1, D))),
        f"diffusion_model.{QKV[0]}.lora_B.weight": stored("F16", np.full((D, 1), 6e-8)),
        f"diffusion_model.{QKV[0]}.alpha": ("F32", np.array(0.5, np.float32)),
    }
    with pytest.raises(UsageError, match="do not fit F16 exactly"):
        convert(save(tmp_path / "in.safetensors", tensors), tmp_path / "no.safetensors", "diffusers")
    assert not list(tmp_path.glob("*no.safetensors*"))


# ---- training


def test_a_lora_of_de_turbo_asked_to_run_on_base_says_what_to_try_first(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = save(tmp_path / "in.safetensors", zimage(rng), {"ss_sd_model_name": "Z-Image-De-Turbo"})
    found = {f.code: f for f in check_lora(source, asked_for="z_image_bf16.safetensors")}
    assert found["SOS-L020"].severity == "warning"
    assert found["SOS-L020"].hint == "try it on De-Turbo, then Turbo first"
    assert "SOS-L020" not in codes(source, asked_for="turbo")
    silent = save(tmp_path / "silent.safetensors", zimage(rng), {"ss_base_model_version": "zimage"})
    assert read_lora(silent).trained_on == "unknown"
    assert codes(silent, asked_for="base")["SOS-L021"] == "info"
    assert codes(silent, asked_for="base", trained_on="turbo")["SOS-L020"] == "warning"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tongyi-MAI/Z-Image", "base"),
        ("z_image_bf16.safetensors", "base"),
        ("Tongyi-MAI/Z-Image-Turbo", "turbo"),
        ("ostris/Z-Image-De-Turbo", "de-turbo"),
        ("z_image_turbo_de-distilled", "de-turbo"),
        ("sdxl_turbo", ""),
        ("sdxl_base_v1-0", ""),
    ],
)
def test_the_name_of_a_base_tells_which_z_image_it_is(name: str, expected: str) -> None:
    assert variant_of(name) == expected


def test_trigger_words_come_from_the_captions_that_every_image_has(tmp_path: Path, rng: np.random.Generator) -> None:
    frequency = json.dumps({"10_elena": {"3l3na": 24, "woman": 24, "smiling": 7}})
    lora = read_lora(
        save(tmp_path / "in.safetensors", zimage(rng), {"ss_tag_frequency": frequency, "ss_steps": "3100"})
    )
    assert (lora.training.triggers, lora.training.steps) == (("3l3na", "woman"), 3100)


# ---- loaders


@pytest.mark.parametrize(
    ("spelling", "alpha", "fused", "expected"),
    [
        (("comfy", "A"), None, False, ("nothing", "loads", "loads", "loads")),
        (("comfy", "A"), 1.0, False, ("nothing", "loads", "loads", "loads")),
        (("diffusers", "A"), None, False, ("nothing", "loads", "loads", "loads")),
        (("diffusers", "A"), 1.0, False, ("nothing", "loads", "loads", "fails")),
        (("diffusers", "default"), None, False, ("nothing", "loads", "loads", "fails")),
        (("kohya", "down"), 1.0, False, ("nothing", "nothing", "nothing", "loads")),
        (("kohya", "down"), 1.0, True, ("loads", "loads", "loads", "loads")),
        (("comfy", "A"), None, True, ("loads", "loads", "loads", "fails")),
        (("comfy", "A"), 1.0, True, ("loads", "loads", "loads", "fails")),
        (("comfy", "down"), 1.0, True, ("loads", "loads", "loads", "partial")),
        (("comfy", "dots"), 1.0, True, ("loads", "loads", "loads", "loads")),
        (("bare", "A"), None, False, ("nothing", "nothing", "loads", "nothing")),
        (("bare", "A"), 1.0, False, ("nothing", "nothing", "loads", "loads")),
        (("bare", "default"), None, False, ("nothing", "nothing", "loads", "loads")),
        (("peft", "A"), None, False, ("nothing", "nothing", "nothing", "nothing")),
        (("lycoris", "down"), 1.0, False, ("nothing", "loads", "loads", "fails")),
    ],
)
def test_what_each_loader_does_with_attention_of_z_image(
    tmp_path: Path,
    rng: np.random.Generator,
    spelling: tuple[str, str],
    alpha: float | None,
    fused: bool,
    expected: tuple[str, ...],
) -> None:
    modules = {"layers.0.attention.qkv": 2, "layers.0.attention.out": 2} if fused else None
    lora = read_lora(save(tmp_path / "in.safetensors", zimage(rng, *spelling, alpha, modules)))
    assert tuple(outcome.result for outcome in outcomes(lora)) == expected
    if any(outcome.result == "partial" for outcome in outcomes(lora)[2:]):
        assert codes(lora.path)["SOS-L006"] == "warning"


def test_musubis_lora_loses_its_attention_in_comfyui_and_the_converted_one_does_not(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    modules = {**dict.fromkeys(QKV, 2), "layers.0.feed_forward.w2": 2}
    source = save(tmp_path / "in.safetensors", zimage(rng, "kohya", "down", 2.0, modules))
    comfy = next(each for each in outcomes(read_lora(source)) if each.loader == "ComfyUI")
    assert (comfy.result, len(comfy.dropped)) == ("partial", 9)
    assert codes(source)["SOS-L006"] == "warning"
    convert(source, tmp_path / "out.safetensors", "comfy")
    results = [o.result for o in outcomes(read_lora(tmp_path / "out.safetensors"))]
    assert results == ["partial", "loads", "loads", "loads"]


# ---- input that means harm


def test_a_base_that_cannot_be_read_is_not_blamed_on_the_lora(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save(tmp_path / "in.safetensors", zimage(rng))
    assert codes(path, base=tmp_path / "missing.safetensors")["SOS-L009"] == "error"
    found = {f.code: f.message for f in check_lora(path, "zimagee")}
    assert "did you mean 'zimage'?" in found["SOS-L009"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_header_makes_a_check_or_a_conversion_crash(tmp_path: Path, data: st.DataObject) -> None:
    stems = [
        "diffusion_model.layers.0.attention.to_q",
        "lora_unet_layers_0_attention_qkv",
        "../../x",
        "\ud800",
        "",
        "a" * 300,
    ]
    endings = [
        ".lora_A.weight",
        ".lora_B.weight",
        ".lora_up.weight",
        ".lora_mid.weight",
        ".alpha",
        ".dora_scale",
        ".diff",
        ".hada_w1_a",
        ".hada_w1_b",
        ".hada_t1",
        ".lokr_w1",
        ".lokr_w2_a",
        ".lokr_t2",
        ".diff_b",
        ".oft_blocks",
        ".x",
    ]
    shapes = st.lists(st.integers(0, 4), max_size=4)
    metadata = data.draw(
        st.dictionaries(
            st.sampled_from(
                ["lora_adapter_metadata", "ss_tag_frequency", "software", "ss_network_alpha", "ss_sd_model_name"]
            ),
            st.sampled_from(
                [
                    "{",
                    "[]",
                    "{}",
                    "9" * 5000,
                    "nan",
                    '{"transformer.lora_alpha": 1e999}',
                    '{"a": {"b": true}}',
                    '{"transformer.lora_alpha": 0}',
                    "[" * 100000,
                    '{"name": 3}',
                    "\x1b[2J",
                ]
            ),
        )
    )
    tensors: Tensors = {}
    for _ in range(data.draw(st.integers(0, 6))):
        name = data.draw(st.sampled_from(stems)) + data.draw(st.sampled_from(endings))
        tensors[name] = stored(data.draw(st.sampled_from(["F16", "F32", "F64"])), np.ones(data.draw(shapes)))
    path = save(tmp_path / "in.safetensors", tensors, metadata)
    for finding in check_lora(path, data.draw(st.sampled_from([None, "zimage", "sdxl", "nope"]))):
        assert finding.code in CODES
        assert "\x1b" not in finding.message
    try:
        out = convert(path, tmp_path / "out.safetensors", data.draw(st.sampled_from(EVERY)), overwrite=True)
    except SosieError:
        return
    assert_same(
        *(deltas(p) for p in (path, out.path))
        if not {"diff", "lokr", "oft", "boft"} & {a.algorithm for a in out.source.adapters}
        else ({}, {})
    )


@pytest.mark.parametrize(
    "content", [b"", b"<!doctype html>", b"version https://git-lfs.github.com/spec/v1\nsize 5\n", b"\0" * 64]
)
def test_what_is_no_safetensors_file_is_one_finding(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    assert codes(tmp_path / "x.safetensors") == {"SOS-L001": "error"}
    assert codes(tmp_path / "missing.safetensors") == {"SOS-L001": "error"}


def test_a_faceid_adapter_with_loras_inside_and_a_model_with_alphas_are_no_loras(tmp_path: Path) -> None:
    names = {"image_proj.proj.0.weight": (4, 4)}
    for index in range(70):
        names |= {f"ip_adapter.{index}.{name}.weight": (4, 4) for name in ("to_k_ip", "to_v_ip")}
        for name in ("to_q", "to_k", "to_v", "to_out"):
            names |= {f"ip_adapter.{index}.{name}_lora.{side}.weight": (4, 4) for side in ("down", "up")}
    with pytest.raises(BadModelError, match="560 of its 701 tensors are named as one"):
        read_lora(sparse(tmp_path / "faceid.safetensors", names))
    with pytest.raises(BadModelError, match="is no LoRA"):
        read_lora(sparse(tmp_path / "snake.safetensors", {"decoder.0.alpha": (1,), "decoder.1.alpha": (1,)}))


def test_a_model_is_no_lora(tmp_path: Path) -> None:
    path = sparse(tmp_path / "x.safetensors", {"layers.0.attention.qkv.weight": (3, 3)})
    with pytest.raises(BadModelError, match="is no LoRA"):
        read_lora(path)


def test_tensors_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    stem = "diffusion_model.layers.0.attention.to_q"
    path = sparse(tmp_path / "x.safetensors", {f"{stem}.lora_A.weight": (4, D), f"{stem}.lora_B.weight": (D, 8)})
    found = {f.code: f.message for f in check_lora(path)}
    assert "up and down do not fit: [6, 8] times [4, 6]" in found["SOS-L030"]


# ---- the command line


def test_the_commands_show_and_convert_work_from_end_to_end(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in.safetensors", zimage(rng, "kohya", "down", 1.0))
    save(tmp_path / "base.safetensors", {"layers.0.attention.qkv.weight": stored("BF16", rng.normal(size=(3 * D, D)))})
    run = CliRunner()
    shown = run.invoke(command, ["show", "in.safetensors", "--json"], standalone_mode=False)
    line = json.loads(shown.stdout)
    assert (line["family"], line["layout"], line["alpha"]["source"]) == ("zimage", "kohya-split", "key")
    assert line["coverage"] == {"matched": 12, "total": 12, "untouched": 276 - 4}
    assert shown.return_value == 1, "ComfyUI drops all of it"
    arguments = [
        "convert",
        "in.safetensors",
        "out.safetensors",
        "--to",
        "fused",
        "--merge-check",
        "base.safetensors",
        "--json",
    ]
    done = run.invoke(command, arguments, standalone_mode=False)
    assert done.exception is None
    assert json.loads(done.stdout)["merge"]["error"] == 0.0
    again = run.invoke(command, arguments, standalone_mode=False)
    assert isinstance(again.exception, UsageError)
    prose = run.invoke(command, ["show", "out.safetensors"], standalone_mode=False)
    assert "kohya" not in prose.stdout
    assert "ComfyUI" in prose.stdout


# ---- against diffusers itself


@pytest.mark.local
def test_the_module_tables_are_those_of_the_real_classes() -> None:
    import torch
    from diffusers import UNet2DConditionModel, ZImageTransformer2DModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            **SDXL,
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        models = {"zimage": ZImageTransformer2DModel(), "sdxl": unet}
    for family, model in models.items():
        table = table_of(family)
        layers = {
            n: tuple(m.weight.shape)
            for n, m in model.named_modules()
            if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)
        }
        assert layers == {m.name: m.shape for m in table.modules if m.component == "denoiser"}


SDXL: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
}


@pytest.mark.local
def test_diffusers_applies_every_tensor_of_an_sdxl_lora_in_both_layouts_alike(tmp_path: Path) -> None:
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin

    class Pipeline(StableDiffusionXLLoraLoaderMixin):
        def __init__(self) -> None:
            torch.manual_seed(0)
            self.unet = UNet2DConditionModel(
                **SDXL,
                block_out_channels=(16, 16, 32),
                transformer_layers_per_block=(1, 1, 1),
                attention_head_dim=(2, 2, 4),
                cross_attention_dim=16,
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=80,
                norm_num_groups=8,
                sample_size=8,
            )
            self.text_encoder = self.text_encoder_2 = self.hf_device_map = None
            self.components = {"unet": self.unet}

    rng, table = np.random.default_rng(1), table_of("sdxl")
    names = {m.name: m.single for m in table.modules}
    tensors: Tensors = {}
    layers = {
        n: m
        for n, m in Pipeline().unet.named_modules()
        if n in names and ("attn" in n or "conv1" in n or ".ff." in n or "proj_" in n)
    }
    for name, module in layers.items():
        stem, shape = "lora_unet_" + underscored(names[name]), tuple(module.weight.shape)
        tensors[f"{stem}.lora_down.weight"] = stored("F32", rng.normal(size=(2, *shape[1:])))
        tensors[f"{stem}.lora_up.weight"] = stored("F32", rng.normal(size=(shape[0], 2, *(1 for _ in shape[2:]))))
        tensors[f"{stem}.alpha"] = ("F32", np.array(1.0, np.float32))
    source = save(tmp_path / "in.safetensors", tensors)
    convert(source, tmp_path / "out.safetensors", "diffusers")
    merged: list[dict[str, Any]] = []
    for path in (source, tmp_path / "out.safetensors"):
        pipeline = Pipeline()
        before = {name: module.weight.clone() for name, module in pipeline.unet.named_modules() if name in layers}
        pipeline.load_lora_weights(str(path))
        pipeline.unet.fuse_lora()
        after = {n.replace(".base_layer", ""): p for n, p in pipeline.unet.named_parameters() if "lora" not in n}
        assert all(not torch.equal(before[name], after[f"{name}.weight"]) for name in layers)
        merged.append({name: after[f"{name}.weight"] for name in layers})
    assert all(torch.equal(merged[0][name], merged[1][name]) for name in layers)


@pytest.mark.local
def test_diffusers_does_with_z_image_what_outcomes_foretell(tmp_path: Path, rng: np.random.Generator) -> None:
    from diffusers import ZImageTransformer2DModel
    from diffusers.loaders.lora_pipeline import ZImageLoraLoaderMixin

    class Pipeline(ZImageLoraLoaderMixin):
        def __init__(self) -> None:
            self.transformer = ZImageTransformer2DModel(
                dim=D, n_layers=1, n_refiner_layers=1, n_heads=1, n_kv_heads=1, cap_feat_dim=8, axes_dims=[2, 2, 2]
            )
            self.hf_device_map = None
            self.components = {"transformer": self.transformer}

    def observed(path: Path, weights: int) -> str:
        pipeline = Pipeline()
        try:
            pipeline.load_lora_weights(str(path))
        except Exception:
            return "fails"
        ups = [p for n, p in pipeline.transformer.named_parameters() if "lora_B" in n and bool(p.any())]
        return {weights: "loads", 0: "nothing"}.get(len(ups), "partial")

    feed = {"layers.0.feed_forward.w1": 2}
    split = {**dict.fromkeys(QKV, 2), "layers.0.attention.to_out.0": 2}
    fused = {"layers.0.attention.qkv": 2, "layers.0.attention.out": 2}
    path = tmp_path / "in.safetensors"
    seen: set[str] = set()
    for naming in PREFIXES:
        for style in ("down",) if naming in ("kohya", "lycoris") else STYLES:
            for alpha in (None, 1.0):
                for modules in (split, split | feed, fused, fused | feed):
                    save(path, zimage(rng, naming, style, alpha, modules, "F32"))
                    result = observed(path, 5 if "layers.0.feed_forward.w1" in modules else 4)
                    assert outcomes(read_lora(path))[-1].result == result, (naming, style, alpha, modules)
                    seen.add(result)
    assert seen == {"loads", "partial", "nothing", "fails"}
    save(path, zimage(rng, "kohya", "down", 1.0, fused))
    for to in ("comfy", "diffusers", "kohya"):
        convert(path, tmp_path / "out.safetensors", to, overwrite=True)
        assert observed(tmp_path / "out.safetensors", 4) == "loads"
