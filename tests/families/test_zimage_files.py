"""Z-Image drawn from files as other programs store it: the same pixels, or the format's own error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_zimage as tiny

from sosie.core.errors import BadModelError
from sosie.core.recipe import LoraUse
from sosie.families import drawer_of
from sosie.families.contract.draws import Settings

pytestmark = pytest.mark.local

BLOCKS = ("layers.0", "layers.1", "noise_refiner.0", "context_refiner.0")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Made:
    return tiny.make(tmp_path_factory.mktemp("zimage"))


@pytest.fixture
def runner() -> Iterator[Any]:
    made = drawer_of("zimage").runner("cpu", Settings())
    yield made
    made.close()


def pixels(runner: Any, made: tiny.Made, transformer: Path, encoder: Path | None = None, **more: Any) -> Any:
    stage = tiny.stage(text_encoder="qwen", vae="ae", **more)
    paths = {"z": transformer, "qwen": encoder or made.text_encoder, "ae": made.vae}
    paths |= {use.file: transformer.with_name(f"{use.file}.safetensors") for use in stage.loras}
    return np.asarray(runner.run(tiny.given(stage, paths)).image)


def parts(runner: Any) -> Any:
    return runner._pipelines._model.parts


def state(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(path)


def linear(held: dict[str, Any]) -> list[str]:
    """The matrices of the blocks, modulation too, as most programs pack them."""
    return [name for name in held if name.startswith(BLOCKS) and name.endswith("weight") and held[name].ndim == 2]


def packed_names(module: Any) -> set[str]:
    from sosie.diffusion.weights.layers import packed_layers

    return set(packed_layers(module))


@pytest.mark.parametrize("how", ["plain", "old", "comfy", "metadata", "rows"])
def test_fp8_draws_what_its_numbers_in_bf16_draw(made: tiny.Made, runner: Any, tmp_path: Path, how: str) -> None:
    """On a CPU both multiply in fp32, whose product of number and scale is not rounded to bf16 as the file's is."""
    from stored import fp8, save

    whole = state(made.transformer)
    held, metadata, truth = fp8(whole, linear(whole), how)
    found = pixels(runner, made, save(tmp_path / "packed.safetensors", held, metadata))
    modules = packed_names(parts(runner).transformer)
    assert len(modules) == 4 * 7  # q, k, v, out, w1, w2, w3 of each block; modulation is bf16
    expected = pixels(runner, made, save(tmp_path / "plain.safetensors", truth))
    assert not packed_names(parts(runner).transformer)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= (0 if how == "plain" else 8)
    assert difference.mean() < (0.01 if how == "plain" else 0.5)
    original = np.abs(pixels(runner, made, made.transformer).astype(int) - expected)
    assert original.mean() > difference.mean()


@pytest.mark.parametrize("layout", ["single", "folder"])
def test_dfloat11_draws_the_same_pixels_in_either_layout(
    made: tiny.Made, runner: Any, tmp_path: Path, layout: str
) -> None:
    from stored import dfloat11, save

    single = layout == "single"
    folder = made.folder / "transformer" / "diffusion_pytorch_model.safetensors"
    held = state(made.transformer if single else folder)
    attention = ("qkv", "out") if single else ("to_q", "to_k", "to_v", "to_out.0")
    for block in BLOCKS:
        names = [f"attention.{part}" for part in attention] + [f"feed_forward.w{n}" for n in (1, 2, 3)]
        names += ["adaLN_modulation.0"] * (not block.startswith("context"))
        held |= dfloat11(block, [held.pop(f"{block}.{name}.weight") for name in names])
    found = pixels(runner, made, save(tmp_path / "df11.safetensors", held))
    np.testing.assert_array_equal(found, pixels(runner, made, made.transformer))


def gguf_of(path: Path, architecture: str, held: dict[str, Any], kind: str, packed: list[str]) -> Path:
    import gguf
    from stored import save_gguf

    tensors: dict[str, Any] = {}
    for name, tensor in held.items():
        number = gguf.GGMLQuantizationType[kind if name in packed else "F32"]
        tensors[name] = (gguf.quantize(tensor.float().numpy(), number), number)
    return save_gguf(path, architecture, tensors)


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 1.0), ("Q5_1", 8.0), ("Q4_0", 16.0)])
def test_gguf_draws_what_its_numbers_draw(made: tiny.Made, runner: Any, tmp_path: Path, kind: str, most: float) -> None:
    import gguf
    import torch
    from stored import save

    whole = state(made.transformer)
    fitting = [name for name in linear(whole) if whole[name].shape[1] % 32 == 0]
    found = pixels(runner, made, gguf_of(tmp_path / "m.gguf", "lumina2", whole, kind, fitting))
    assert len(packed_names(parts(runner).transformer)) >= 4 * 6
    number = gguf.GGMLQuantizationType[kind]
    for name in fitting:
        data = gguf.quantize(whole[name].float().numpy(), number)
        whole[name] = torch.from_numpy(gguf.dequantize(data, number)).reshape(whole[name].shape)
    np.testing.assert_array_equal(found, pixels(runner, made, save(tmp_path / "plain.safetensors", whole)))
    difference = np.abs(found.astype(int) - pixels(runner, made, made.transformer)).mean()
    assert difference < most


def test_a_text_encoder_of_llama_cpp_gives_the_same_pixels(made: tiny.Made, runner: Any, tmp_path: Path) -> None:
    import gguf

    held = state(made.text_encoder)
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 3)
    named = {table.get_name(name, try_suffixes=(".weight",)): tensor for name, tensor in held.items()}
    assert {"token_embd.weight", "blk.0.attn_q.weight", "blk.2.ffn_down.weight", "output_norm.weight"} <= named.keys()
    path = gguf_of(tmp_path / "qwen.gguf", "qwen3", named, "F32", [])
    expected = pixels(runner, made, made.transformer)
    np.testing.assert_array_equal(pixels(runner, made, made.transformer, path), expected)
    packed = [name for name in named if ".attn_q.weight" in name or "ffn_gate.weight" in name]
    path = gguf_of(tmp_path / "packed.gguf", "qwen3", named, "Q8_0", packed)
    difference = np.abs(pixels(runner, made, made.transformer, path).astype(int) - expected).mean()
    assert len(packed_names(parts(runner).text_encoder)) == len(packed) == 6
    assert difference < 1


def test_rotated_int8_of_comfyui_draws_within_its_error(made: tiny.Made, runner: Any, tmp_path: Path) -> None:
    import torch
    from stored import mark, save

    quantization = pytest.importorskip("comfy_kitchen.backends.eager.quantization")
    held = state(made.transformer)
    for name in [name for name in linear(held) if held[name].shape[1] % 16 == 0]:
        stem = name.removesuffix("weight")
        held[name], scale = quantization.quantize_int8_convrot_weight(held[name].float(), 16)
        held[f"{stem}weight_scale"] = scale.float().reshape(-1)
        held[f"{stem}comfy_quant"] = mark({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 16})
    path = save(tmp_path / "z_int8_convrot.safetensors", held)
    difference = np.abs(pixels(runner, made, path).astype(int) - pixels(runner, made, made.transformer))
    assert 0 < difference.mean() < 1.5
    assert all(tensor.dtype == torch.float32 for tensor in parts(runner).transformer.parameters())


def test_a_lora_beside_fp8_does_what_it_does_to_the_numbers_and_leaves_no_trace(
    made: tiny.Made, runner: Any, tmp_path: Path
) -> None:
    import torch
    from stored import fp8, save

    whole = state(made.transformer)
    held, _, truth = fp8(whole, linear(whole))
    packed, plain = save(tmp_path / "packed.safetensors", held), save(tmp_path / "plain.safetensors", truth)
    noise = torch.Generator().manual_seed(4)
    lora = {}
    for block in ("layers.0", "layers.1"):
        for module in ("attention.to_q", "attention.to_v", "attention.to_out.0", "adaLN_modulation.0"):
            rows, columns = (4 * tiny.WIDTH, tiny.WIDTH) if "adaLN" in module else (tiny.WIDTH, tiny.WIDTH)
            stem = f"diffusion_model.{block}.{module}"
            lora[f"{stem}.lora_A.weight"] = torch.randn(4, columns, generator=noise) * 0.3
            lora[f"{stem}.lora_B.weight"] = torch.randn(rows, 4, generator=noise) * 0.3
    save(tmp_path / "lora.safetensors", lora)
    before = pixels(runner, made, packed)
    with_lora = pixels(runner, made, packed, loras=(LoraUse("lora", 0.8),))
    assert len(packed_names(parts(runner).transformer)) == 4 * 7
    np.testing.assert_array_equal(pixels(runner, made, packed), before)
    merged = pixels(runner, made, plain, loras=(LoraUse("lora", 0.8),))
    assert np.abs(with_lora.astype(int) - before).mean() > 0.5
    assert np.abs(with_lora.astype(int) - merged).max() <= 1


@pytest.mark.parametrize("mode", ["tiled", "offload", "fp8", "sequential"])
def test_packed_layers_go_where_a_memory_mode_wants_them_and_draw_the_same(
    made: tiny.Made, tmp_path: Path, mode: Any
) -> None:
    import torch
    from stored import fp8, save

    from sosie.diffusion.offload import place
    from sosie.diffusion.weights.layers import packed_layers
    from sosie.families.zimage.diffusers.denoise import Guidance, Velocity
    from sosie.families.zimage.diffusers.load import Files, load_parts
    from sosie.families.zimage.diffusers.text import encode

    whole = state(made.transformer)
    held, _, _ = fp8(whole, linear(whole), "old")
    files = Files(save(tmp_path / "packed.safetensors", held), made.text_encoder, made.vae)
    loaded = load_parts(files, torch.bfloat16, "cpu", packed=True)
    guidance = Guidance(encode(loaded, "a red hat"), None, 1.0)
    first = next(iter(packed_layers(loaded.transformer).values()))
    first.put_beside([(torch.ones(2, first.in_features), torch.ones(first.out_features, 2))])

    def velocity() -> Any:
        with torch.no_grad():
            latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
            return Velocity(loaded.transformer, guidance, torch.device("cpu"))(latents, 0.7)

    before = velocity()
    place(loaded, mode, "cpu")
    assert torch.equal(velocity(), before)
    assert first.packed.is_meta == (mode == "sequential")


def test_what_is_not_read_and_what_is_damaged_is_named(made: tiny.Made, runner: Any, tmp_path: Path) -> None:
    import torch
    from stored import dfloat11, save

    held = state(made.transformer)
    svd = {name: tensor for name, tensor in held.items() if not name.startswith("layers.1.attention.qkv")}
    for part in ("qweight", "wscales", "proj_down", "proj_up"):
        svd[f"layers.1.attention.qkv.{part}"] = torch.ones(4, 4)
    with pytest.raises(BadModelError, match="SVDQuant"):
        pixels(runner, made, save(tmp_path / "svd.safetensors", svd))
    names = ["attention.qkv", "attention.out", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"]
    stream = dfloat11("layers.0", [held.pop(f"layers.0.{name}.weight") for name in [*names, "adaLN_modulation.0"]])
    stream["layers.0.gaps"] = torch.zeros_like(stream["layers.0.gaps"])
    with pytest.raises(BadModelError, match="end where the next begin"):
        pixels(runner, made, save(tmp_path / "df11.safetensors", {**held, **stream}))
    stream["layers.0.split_positions"] = stream["layers.0.split_positions"][:-1]
    with pytest.raises(BadModelError, match="joins 5 weights"):
        pixels(runner, made, save(tmp_path / "df11.safetensors", {**held, **stream}))
