"""Fused weights whose parts differ in height: taken apart and put together, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sosie.doctor.loras import check_lora
from sosie.families import families, find_family
from sosie.lora import coverage, read_lora
from sosie.lora.keymap import key_map

Sosie = Callable[..., Any]
Arrays = dict[str, np.ndarray]

FUSED = {
    "flux1": (
        "lora_unet_single_blocks_0_linear1",
        3072,
        [(f"single_transformer_blocks.0.{name}", 3072) for name in ("attn.to_q", "attn.to_k", "attn.to_v")]
        + [("single_transformer_blocks.0.proj_mlp", 12288)],
    ),
    "pixart": (
        "lora_unet_blocks_3_cross_attn_kv_linear",
        1152,
        [(f"transformer_blocks.3.attn2.to_{letter}", 1152) for letter in "kv"],
    ),
    "lumina2": (
        "lora_unet_layers_1_attention_qkv",
        2304,
        [("layers.1.attn.to_q", 2304), ("layers.1.attn.to_k", 768), ("layers.1.attn.to_v", 768)],
    ),
    "qwen_image21": (
        "lora_unet_transformer_blocks_0_img_mlp_gate_up",
        4096,
        [("transformer_blocks.0.img_mlp.gate_layer", 12288), ("transformer_blocks.0.img_mlp.proj", 12288)],
    ),
}


def whole(*shape: int) -> np.ndarray:
    """Small whole numbers, whose products and sums are exact."""
    return np.random.default_rng(shape[0]).integers(-3, 4, shape).astype(np.float32)


def product(tensors: Arrays, stem: str, kind: str) -> np.ndarray:
    """A change by textbook algebra."""
    down, up = ("lora_A", "lora_B") if kind == "A" else ("lora_down", "lora_up")
    alpha = tensors.get(f"{stem}.alpha")
    rank = tensors[f"{stem}.{down}.weight"].shape[0]
    scale = 1.0 if alpha is None else float(alpha) / rank
    return scale * (tensors[f"{stem}.{up}.weight"] @ tensors[f"{stem}.{down}.weight"])


@pytest.mark.parametrize("family", FUSED)
def test_a_fused_weight_is_taken_apart_by_the_heights_of_its_parts(tmp_path: Path, sosie: Sosie, family: str) -> None:
    stem, width, parts = FUSED[family]
    rows = sum(count for _, count in parts)
    file, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    fused = {f"{stem}.lora_down.weight": whole(2, width), f"{stem}.lora_up.weight": whole(rows, 2)}
    save_file({**fused, f"{stem}.alpha": np.array(2, np.float32)}, file)
    assert read_lora(file, families()).family == family
    assert sosie("lora", "convert", file, out, "--to", "diffusers").code == 0
    made = load_file(out)
    split = np.concatenate([product(made, f"transformer.{name}", "A") for name, _ in parts])
    assert np.array_equal(split, product(load_file(file), stem, "down"))


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("missing", [None, 1])
def test_parts_are_put_together_each_at_its_place(
    tmp_path: Path, sosie: Sosie, family: str, missing: int | None
) -> None:
    stem, width, parts = FUSED[family]
    file, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    tensors: Arrays = {}
    for name, rows in (part for place, part in enumerate(parts) if place != missing):
        tensors[f"transformer.{name}.lora_A.weight"] = whole(2, width)
        tensors[f"transformer.{name}.lora_B.weight"] = whole(rows, 2)
    save_file(tensors, file)
    assert sosie("lora", "convert", file, out, "--to", "kohya").code == 0
    blocks = [
        np.zeros((rows, width), np.float32) if place == missing else product(tensors, f"transformer.{name}", "A")
        for place, (name, rows) in enumerate(parts)
    ]
    assert np.array_equal(product(load_file(out), stem, "down"), np.concatenate(blocks))


def halves(of: Sequence[str]) -> Arrays:
    """A LoRA of a last layer's modulation, under these names."""
    stem = of[0]
    return {f"{stem}.lora_A.weight": whole(2, 3072), f"{stem}.lora_B.weight": whole(6144, 2)}


def test_a_layer_whose_halves_diffusers_turns_keeps_the_name_by_which_comfyui_turns_them_back(
    tmp_path: Path, sosie: Sosie
) -> None:
    for stem, kept in (
        ("base_model.model.norm_out.linear", "transformer.norm_out.linear"),
        ("final_layer.adaLN_modulation.1", "diffusion_model.final_layer.adaLN_modulation.1"),
    ):
        tensors = halves([stem]) | {
            "base_model.model.transformer_blocks.18.norm1.linear.lora_A.weight": whole(2, 3072),
            "base_model.model.transformer_blocks.18.norm1.linear.lora_B.weight": whole(18432, 2),
        }
        file = tmp_path / f"{stem}.safetensors"
        save_file(tensors, file)
        assert sosie("lora", "convert", file, tmp_path / f"{stem}.out.safetensors", "--to", "comfy").code == 0
        made = load_file(tmp_path / f"{stem}.out.safetensors")
        assert np.array_equal(made[f"{kept}.lora_B.weight"], tensors[f"{stem}.lora_B.weight"])
        other = "kohya" if "norm_out" in stem else "diffusers"
        refused = sosie("lora", "convert", file, tmp_path / "no.safetensors", "--to", other)
        assert (refused.code, "the other way round" in refused.err) == (2, True)


def test_a_table_has_as_many_numbers_as_the_signature_says() -> None:
    compared = 0
    for family in families():
        tables = [
            sum(int(np.prod(m.shape)) for m in table.modules if m.component == "denoiser")
            for table in family.adapters.tables
        ]
        parts = [part for part in family.parts if part.role == "denoiser"]
        told = {each.parameters for part in parts for each in (part, *part.variants)} - {0}
        if tables and told:
            # Norms and biases are no modules, nor are embeddings of positions, which are a tenth of the smallest.
            assert min(abs(count - size) / size for count in tables for size in told) < 0.1, family.name
            compared += 1
    assert compared >= 10


def test_no_name_of_a_key_map_means_two_weights_and_each_name_is_found_in_the_table() -> None:
    for family in families():
        for table in family.adapters.tables:
            keys = key_map(table, family.adapters.rules)
            assert keys
            named = {module for modules in keys.values() for module in modules}
            denoiser = {module for module in table.modules if module.component == "denoiser"}
            assert denoiser <= named, (family.name, sorted(m.name for m in denoiser - named)[:3])


def test_a_lora_is_the_same_on_a_base_in_either_layout(tmp_path: Path) -> None:
    flux = find_family("flux1")
    assert flux is not None
    assert flux.adapters.table is not None
    stem = "transformer.single_transformer_blocks.5.proj_mlp"
    path = tmp_path / "a.safetensors"
    save_file({f"{stem}.lora_A.weight": whole(2, 3072), f"{stem}.lora_B.weight": whole(12288, 2)}, path)
    lora = read_lora(path, families())
    assert coverage(lora, flux.adapters.table).matched == 2
    assert "SOS-L006" not in {f.code for f in check_lora(path)}
