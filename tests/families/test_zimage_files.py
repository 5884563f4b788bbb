"""The transformer of Z-Image from files as other programs store it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.local

SMALL: Any = {
    "dim": 256,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "cap_feat_dim": 64,
    "axes_dims": [32, 48, 48],
    "axes_lens": [64, 32, 32],
}


def transformer() -> Any:
    import torch
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(0)
    return ZImageTransformer2DModel(**SMALL).bfloat16().eval()


def renamed(name: str) -> str:
    for ours, theirs in (
        ("all_x_embedder.2-1", "x_embedder"),
        ("all_final_layer.2-1", "final_layer"),
        ("to_out.0", "out"),
        ("norm_q", "q_norm"),
        ("norm_k", "k_norm"),
    ):
        name = name.replace(ours, theirs)
    return name


def single_file(state: Any) -> Any:
    """The layout of the Comfy-Org files."""
    import torch

    found: Any = {}
    for name, tensor in state.items():
        if ".to_k." in name or ".to_v." in name:
            continue
        if ".to_q." in name:
            parts = [state[name.replace(".to_q.", f".to_{letter}.")] for letter in "qkv"]
            found[name.replace("to_q", "qkv")] = torch.cat(parts)
            continue
        found[renamed(name)] = tensor
    return found


def empty() -> Any:
    import torch
    from diffusers import ZImageTransformer2DModel

    with torch.device("meta"):
        return ZImageTransformer2DModel(**SMALL)


def load(path: Path, keep: bool = False) -> Any:
    import torch

    from sosie.diffusion.weights.filling import fill
    from sosie.diffusion.weights.reading import read_weights
    from sosie.families.zimage.names import kept_packed, sources, stream_members

    weights = read_weights(path, members=stream_members)
    model = empty()
    parameters = [(name, tuple(tensor.shape)) for name, tensor in model.named_parameters()]
    return fill(
        model, weights, sources(parameters, weights.names), torch.bfloat16, kept_packed if keep else None
    ).eval()


def draw(model: Any) -> Any:
    import torch

    noise = torch.Generator().manual_seed(1)
    x = torch.randn(16, 1, 8, 8, generator=noise).bfloat16()
    text = torch.randn(9, 64, generator=noise).bfloat16()
    with torch.inference_mode():
        return model([x], torch.tensor([0.3]).bfloat16(), [text], return_dict=False)[0][0]


def test_both_layouts_in_bf16_give_the_model_that_was_saved(tmp_path: Path) -> None:
    import torch
    from stored import save

    model = transformer()
    for layout in (dict, single_file):
        loaded = load(save(tmp_path / f"{layout.__name__}.safetensors", layout(model.state_dict())))
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
        assert torch.equal(draw(loaded), draw(model))


def test_dfloat11_gives_the_same_bits_in_either_layout(tmp_path: Path) -> None:
    import torch
    from stored import dfloat11, save

    model = transformer()
    for layout, attention in ((single_file, ("qkv", "out")), (dict, ("to_q", "to_k", "to_v", "to_out.0"))):
        held = layout(model.state_dict())
        for block in ("layers.0", "layers.1", "noise_refiner.0", "context_refiner.0"):
            parts = [f"attention.{part}" for part in attention] + [f"feed_forward.w{n}" for n in (1, 2, 3)]
            parts += ["adaLN_modulation.0"] * (block != "context_refiner.0")
            held |= dfloat11(block, [held.pop(f"{block}.{part}.weight") for part in parts])
        loaded = load(save(tmp_path / f"{layout.__name__}.safetensors", held))
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("how", ["plain", "old", "comfy", "metadata", "rows"])
def test_fp8_draws_alike_kept_or_dequantised(tmp_path: Path, how: str) -> None:
    import torch
    from stored import fp8, save

    from sosie.diffusion.weights.layers import packed_layers

    model = transformer()
    state = single_file(model.state_dict())
    packed = [name for name in state if name.endswith("weight") and state[name].ndim == 2 and "refiner" not in name]
    held, metadata, truth = fp8(state, packed, how)
    path = save(tmp_path / "m.safetensors", held, metadata)
    whole, kept = load(path), load(path, keep=True)
    assert torch.equal(draw(whole), draw(kept))
    layers = packed_layers(kept)
    assert len(layers) == 2 * 7  # q, k, v, out, w1, w2, w3 of each of the layers
    assert all(layer.packed.dtype == torch.uint8 for layer in layers.values())
    assert torch.equal(whole.layers[0].feed_forward.w1.weight, truth["layers.0.feed_forward.w1.weight"])
    error = (draw(whole) - draw(model)).float().norm() / draw(model).float().norm()
    assert 0 < error < 0.1


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q4_0"])
def test_gguf_draws_alike_kept_or_dequantised(tmp_path: Path, kind: str) -> None:
    import gguf
    import torch
    from stored import save_gguf

    model = transformer()
    tensors: Any = {}
    for name, tensor in single_file(model.state_dict()).items():
        number = gguf.GGMLQuantizationType.F32
        if tensor.ndim == 2 and name.startswith("layers.") and tensor.shape[1] % 32 == 0:
            number = gguf.GGMLQuantizationType[kind]
        tensors[name] = (gguf.quantize(tensor.float().numpy(), number), number)
    path = save_gguf(tmp_path / "m.gguf", "lumina2", tensors)
    whole, kept = load(path), load(path, keep=True)
    assert torch.equal(draw(whole), draw(kept))
    error = (draw(whole) - draw(model)).float().norm() / draw(model).float().norm()
    assert 0 < error < {"Q8_0": 0.02, "Q5_1": 0.1, "Q4_0": 0.2}[kind]


def test_a_text_encoder_from_llama_cpp_gives_the_same_states(tmp_path: Path) -> None:
    import gguf
    import torch
    from stored import save_gguf
    from transformers import Qwen3Config, Qwen3Model

    from sosie.diffusion.weights.filling import fill
    from sosie.diffusion.weights.language import llama_cpp_sources
    from sosie.diffusion.weights.reading import read_weights

    config = Qwen3Config(
        vocab_size=80,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    torch.manual_seed(0)
    model = Qwen3Model(config).eval()
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 3)
    tensors: Any = {}
    for name, tensor in model.state_dict().items():
        theirs = table.get_name(f"model.{name}", try_suffixes=(".weight",))
        tensors[theirs] = (tensor.numpy(), gguf.GGMLQuantizationType.F32)
    assert {"token_embd.weight", "blk.0.attn_q.weight", "blk.2.ffn_down.weight", "output_norm.weight"} <= tensors.keys()
    weights = read_weights(save_gguf(tmp_path / "te.gguf", "qwen3", tensors))
    with torch.device("meta"):
        other = Qwen3Model(config)
    names = [name for name, _ in other.named_parameters()]
    fill(other, weights, llama_cpp_sources("qwen3", names, 3), torch.float32)
    other.rotary_emb = model.rotary_emb
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        assert torch.equal(other.eval()(ids).last_hidden_state, model(ids).last_hidden_state)
