"""LoRAs of SDXL: merged as their equations say, in any layout, and taken out without a trace."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sdxl as tiny

from sosie.core.errors import BadModelError, EngineError
from sosie.core.recipe import LoraUse
from sosie.families import families
from sosie.files.safetensors import Header, TensorInfo
from sosie.lora import read_lora
from sosie.lora.adapters import group
from sosie.lora.algebra import Change, delta
from sosie.lora.convert import convert
from sosie.lora.tensors import Tensor

pytestmark = pytest.mark.local

STEM = "down_blocks.1.attentions.0.transformer_blocks.0"
TEXT = "text_model.encoder.layers.1"
LAYERS = {
    f"unet.{STEM}.attn1.to_q": (64, 64, 4, 2.0),  # rows, columns, rank, alpha
    f"unet.{STEM}.attn2.to_k": (64, 32, 8, 8.0),
    f"unet.{STEM}.ff.net.0.proj": (512, 64, 2, 1.0),
    "unet.down_blocks.1.resnets.0.conv1": (64, 32 * 9, 4, 4.0),
    f"text_encoder.{TEXT}.self_attn.q_proj": (16, 16, 4, 2.0),
    f"text_encoder_2.{TEXT}.mlp.fc1": (24, 16, 4, 4.0),
}
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}


@pytest.fixture
def pipeline() -> Any:
    """The UNet with text encoders in the two classes of SDXL."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    made = tiny.pipeline("StableDiffusionXLPipeline", tiny.unet(transformer_layers_per_block=1))
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPTextConfig(**sizes, vocab_size=40, projection_dim=16, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    torch.manual_seed(7)
    made.text_encoder, made.text_encoder_2 = CLIPTextModel(config), CLIPTextModelWithProjection(config)
    return made


def lora(path: Path, seed: int = 1) -> Path:
    """A LoRA in kohya's layout that changes attention, feed-forward, a convolution, and both text encoders."""
    import torch

    content: dict[str, Any] = {}
    for place, (name, (rows, columns, rank, alpha)) in enumerate(LAYERS.items()):
        component, _, module = name.partition(".")
        stem = KOHYA[component] + module.replace(".", "_")
        down = tiny.random(seed * 100 + place, rank, columns)
        conv = "conv1" in name
        content[f"{stem}.lora_down.weight"] = down.reshape(rank, -1, 3, 3) if conv else down
        up = tiny.random(seed * 100 + 50 + place, rows, rank)
        content[f"{stem}.lora_up.weight"] = up[:, :, None, None] if conv else up
        content[f"{stem}.alpha"] = torch.tensor(alpha)
    return tiny.saved(path, content)


def module_of(pipeline: Any, name: str) -> Any:
    component, _, module = name.partition(".")
    model = getattr(pipeline, component)
    names = dict(model.named_modules())
    return names.get(module) or names[module.removeprefix("text_model.")]


def state(pipeline: Any) -> dict[str, Any]:
    parts = ("unet", "text_encoder", "text_encoder_2")
    return {f"{part}.{key}": t.clone() for part in parts for key, t in getattr(pipeline, part).state_dict().items()}


def product_of(path: Path, name: str) -> Any:
    """alpha / rank * B A, by hand."""
    from safetensors.torch import load_file

    content = load_file(path)
    component, _, module = name.partition(".")
    stem = KOHYA[component] + module.replace(".", "_")
    down, up = content[f"{stem}.lora_down.weight"].flatten(1), content[f"{stem}.lora_up.weight"].flatten(1)
    return float(content[f"{stem}.alpha"]) / len(down) * up @ down


def test_every_weight_becomes_the_sum_that_the_paper_says_and_no_other_changes(pipeline: Any, tmp_path: Path) -> None:
    import torch

    from sosie.families.sdxl.diffusers.loras import Loras

    paths = {"one": lora(tmp_path / "one.safetensors"), "two": lora(tmp_path / "two.safetensors", 2)}
    before = state(pipeline)
    assert Loras(pipeline).set((LoraUse("one", 0.7), LoraUse("two", -0.4)), paths)
    after = state(pipeline)
    for name in LAYERS:
        added = 0.7 * product_of(paths["one"], name) - 0.4 * product_of(paths["two"], name)
        found = module_of(pipeline, name).weight
        key = next(key for key, tensor in after.items() if torch.equal(tensor, found))
        assert torch.allclose(found, before[key] + added.reshape(found.shape), atol=1e-5)
        assert (found - before.pop(key)).abs().max() > 0.1
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_all_is_as_before_to_the_last_bit_when_loras_go(pipeline: Any, tmp_path: Path) -> None:
    import torch

    from sosie.families.sdxl.diffusers.loras import Loras

    pipeline.unet.to(torch.bfloat16)
    paths = {"one": lora(tmp_path / "one.safetensors"), "two": lora(tmp_path / "two.safetensors", 2)}
    before, loras = state(pipeline), Loras(pipeline)
    loras.set((LoraUse("one", 0.7),), paths)
    alone = state(pipeline)
    loras.set((LoraUse("one", 0.7), LoraUse("two", 0.3)), paths)
    loras.set((LoraUse("one", 0.7),), paths)
    assert all(torch.equal(alone[name], tensor) for name, tensor in state(pipeline).items())
    assert loras.clear()
    assert all(torch.equal(before[name], tensor) for name, tensor in state(pipeline).items())
    assert not loras.clear()
    assert not loras.set((LoraUse("one", 0.0),), paths)


def test_only_what_changes_is_touched(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.families.sdxl.diffusers.loras import Loras

    paths = {"one": lora(tmp_path / "one.safetensors")}
    loras = Loras(pipeline)
    loras.set((LoraUse("one", 0.7),), paths)
    weight = pipeline.unet.get_submodule(f"{STEM}.attn1.to_q").weight
    place = weight.data_ptr()
    assert not loras.set((LoraUse("one", 0.7),), paths)
    lora(paths["one"], 3)
    os.utime(paths["one"], ns=(1, 1))
    first = weight.clone()
    assert loras.set((LoraUse("one", 0.7),), paths), "another file of the same name"
    assert not np.array_equal(first.detach(), weight.detach())
    assert weight.data_ptr() == place, "weights are changed in place, for graphs refer to them"


@pytest.mark.parametrize("to", ["diffusers", "comfy"])
def test_every_layout_gives_the_same_weights(pipeline: Any, tmp_path: Path, to: str) -> None:
    import torch

    from sosie.families.sdxl.diffusers.loras import Loras

    paths = {"kohya": lora(tmp_path / "kohya.safetensors")}
    convert(read_lora(paths["kohya"], families()), tmp_path / "other.safetensors", to)
    loras = Loras(pipeline)
    loras.set((LoraUse("kohya", 0.5),), paths)
    wanted = state(pipeline)
    loras.set((LoraUse("other", 0.5),), {"other": tmp_path / "other.safetensors"})
    assert all(torch.allclose(wanted[name], tensor, atol=1e-5) for name, tensor in state(pipeline).items())


ALGORITHMS: Mapping[str, Mapping[str, Sequence[int]]] = {
    "lora": {"lora_down.weight": (4, 20), "lora_up.weight": (12, 4)},
    "convolution": {"lora_down.weight": (4, 5, 3, 3), "lora_up.weight": (12, 4, 1, 1)},
    "Tucker": {"lora_down.weight": (4, 5, 1, 1), "lora_mid.weight": (4, 4, 3, 3), "lora_up.weight": (12, 4, 1, 1)},
    "loha": {"hada_w1_a": (12, 3), "hada_w1_b": (3, 20), "hada_w2_a": (12, 3), "hada_w2_b": (3, 20)},
    "lokr": {"lokr_w1": (3, 4), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 5)},
    "lokr of a convolution": {"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 4), "lokr_w2": (4, 5, 3, 3)},
    "diff": {"diff": (12, 20)},
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_computed_as_the_converter_does(name: str) -> None:
    from sosie.diffusion.lora_merge import product

    content = {
        f"lora_unet_x.{key}": tiny.random(9 + at, *shape) for at, (key, shape) in enumerate(ALGORITHMS[name].items())
    }
    header = Header({key: TensorInfo("F32", tuple(tensor.shape), (0, 0)) for key, tensor in content.items()}, {})
    (adapter,) = group(header).adapters
    assert not adapter.problem
    tensors = {role: content[key] for role, key in adapter.keys.items()}
    given = {role: Tensor("F32", tuple(t.shape), t.numpy) for role, t in tensors.items()}
    wanted = delta(Change("x", adapter.algorithm, given, *adapter.shape, adapter.rank, float(adapter.rank)))
    assert np.allclose(product(adapter.algorithm, tensors), wanted, atol=1e-5)


@pytest.mark.parametrize("by_row", [True, False])
def test_dora_sets_the_norms_it_was_trained_to(by_row: bool) -> None:
    from sosie.diffusion.lora_merge import ModuleChange, merged

    weight, up, down = tiny.random(1, 6, 6), tiny.random(2, 6, 2), tiny.random(3, 2, 6)
    sizes = tiny.random(4, 6).abs() + 1
    tensors = {"up": up, "down": down, "dora": sizes[:, None] if by_row else sizes[None]}
    change = ModuleChange(("unet", "x"), "lora", dict.fromkeys(tensors, ""), 0.5)
    whole = merged(weight, change, tensors, 1.0)
    assert np.allclose(whole.norm(dim=1 if by_row else 0), sizes, atol=1e-5)
    direction = weight + 0.5 * up @ down
    assert np.allclose((whole / direction).std(dim=1 if by_row else 0), 0, atol=1e-5)
    assert np.allclose(merged(weight, change, tensors, 0.25), weight + 0.25 * (whole - weight), atol=1e-5)


def wrong(name: str) -> dict[str, Any]:
    """LoRAs that are none of this model, by what is wrong with them."""
    attention = f"lora_unet_{STEM.replace('.', '_')}_attn2_to_k"

    def pair(stem: str, rows: int, columns: int, style: str = "lora_down lora_up") -> dict[str, Any]:
        down, up = style.split()
        return {f"{stem}.{down}.weight": tiny.random(1, 4, columns), f"{stem}.{up}.weight": tiny.random(2, rows, 4)}

    if name == "Z-Image":
        stems = [f"diffusion_model.layers.{i}.attention.to_q" for i in range(3)]
        return {key: t for stem in stems for key, t in pair(stem, 3840, 3840, "lora_A lora_B").items()}
    if name == "SD 1.5":
        return pair("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 320, 320)
    if name == "full SDXL":
        return pair(attention, 640, 2048)
    if name == "a deeper model":
        return pair(attention.replace("blocks_0_attn2", "blocks_1_attn2"), 64, 32)
    return {**pair(attention, 64, 32), f"{attention.replace('to_k', 'to_v')}.lora_up.weight": tiny.random(3, 64, 4)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Z-Image", "is a LoRA for zimage; expected one for sdxl"),
        ("SD 1.5", "is a LoRA for sd1; expected one for sdxl"),
        ("full SDXL", r"to_k by \[640, 2048\]; this model has \[64, 32\]"),
        ("a deeper model", r"transformer_blocks\.1\.attn2\.to_k, which this model does not have"),
        ("half", "attn2_to_v cannot be used: 'down' is missing"),
    ],
)
def test_a_lora_of_another_model_is_named_and_refused(pipeline: Any, tmp_path: Path, name: str, message: str) -> None:
    import torch

    from sosie.families.sdxl.diffusers.loras import Loras

    paths = {"good": lora(tmp_path / "good.safetensors"), "bad": tiny.saved(tmp_path / "bad.safetensors", wrong(name))}
    before = state(pipeline)
    with pytest.raises(BadModelError, match=message) as refused:
        Loras(pipeline).set((LoraUse("good"), LoraUse("bad")), paths)
    assert "bad.safetensors" in refused.value.message
    assert refused.value.hint
    assert all(torch.equal(before[key], tensor) for key, tensor in state(pipeline).items())


def test_an_interrupted_merge_leaves_no_half_of_a_lora(
    pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from sosie.diffusion import lora_merge as module
    from sosie.families.sdxl.diffusers.loras import Loras

    paths = {"one": lora(tmp_path / "one.safetensors"), "two": lora(tmp_path / "two.safetensors", 2)}
    before, loras, merged, calls = state(pipeline), Loras(pipeline), module.merged, list[int]()
    loras.set((LoraUse("one", 0.7),), paths)

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return merged(*arguments)

    monkeypatch.setattr(module, "merged", stopped)
    with pytest.raises(KeyboardInterrupt):
        loras.set((LoraUse("two", 0.7),), paths)
    assert all(torch.equal(before[key], tensor) for key, tensor in state(pipeline).items())
    assert loras.set((LoraUse("one", 0.7),), paths)


def test_weights_in_eight_bits_take_other_loras_only_where_the_originals_are_kept(
    pipeline: Any, tmp_path: Path
) -> None:
    import torch

    from sosie.families.sdxl.diffusers.loras import Loras

    paths = {"one": lora(tmp_path / "one.safetensors"), "two": lora(tmp_path / "two.safetensors", 2)}
    loras, late = Loras(pipeline), Loras(pipeline)
    weight = module_of(pipeline, f"unet.{STEM}.attn1.to_q").weight
    before = weight.detach().clone()
    loras.set((LoraUse("one", 0.1),), paths)
    for name in LAYERS:
        module_of(pipeline, name).weight.data = module_of(pipeline, name).weight.data.to(torch.float8_e4m3fn)
    weight = module_of(pipeline, f"unet.{STEM}.attn1.to_q").weight
    loras.set((LoraUse("two", 0.1),), paths)
    wanted = before + 0.1 * product_of(paths["two"], f"unet.{STEM}.attn1.to_q")
    assert torch.equal(weight.float(), wanted.to(torch.float8_e4m3fn).float())
    with pytest.raises(EngineError, match="the weights are rounded to 8 bits"):
        late.set((LoraUse("one", 0.1),), paths)
    pipeline.unet.to("meta")
    with pytest.raises(EngineError, match="the weights are elsewhere"):
        loras.set((), paths)
