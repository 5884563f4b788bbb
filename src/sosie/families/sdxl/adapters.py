"""LoRAs of SDXL: the modules that they adapt, how layouts spell them, and what each loader does with them.

| to          | how                                                         |
|-------------|-------------------------------------------------------------|
| `kohya`     | `lora_unet_input_blocks_...`, alpha; read everywhere        |
| `comfy`     | as `kohya`                                                  |
| `diffusers` | `unet.`, `lora_A`, alpha folded                             |

Source of the modules: diffusers `UNet2DConditionModel` with its published configuration, and transformers' CLIP.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sosie.lora.layouts import PREFIXES
from sosie.lora.loaders import COMFY, COMFY_OLD, DIFFUSERS, KeyMap, by_diffusers, by_key_map, has_alpha, styles
from sosie.lora.lora import Loader, Lora, LoraSupport, Outcome
from sosie.lora.modules import Component, Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

EMBED, CONTEXT, ADM = 1280, 2048, 2816
"""Widths of its time embedding, of its text states, of its added embedding's input."""

BLOCKS = (
    # block, resnets as (in, out), depth of its transformers, samplers, first number in a single file
    ("down_blocks.0", ((320, 320), (320, 320)), 0, "downsamplers", "input_blocks.1"),
    ("down_blocks.1", ((320, 640), (640, 640)), 2, "downsamplers", "input_blocks.4"),
    ("down_blocks.2", ((640, 1280), (1280, 1280)), 10, "", "input_blocks.7"),
    ("up_blocks.0", ((2560, 1280), (2560, 1280), (1920, 1280)), 10, "upsamplers", "output_blocks.0"),
    ("up_blocks.1", ((1920, 640), (1280, 640), (960, 640)), 2, "upsamplers", "output_blocks.3"),
    ("up_blocks.2", ((960, 320), (640, 320), (640, 320)), 0, "", "output_blocks.6"),
)


def modules() -> Iterator[Module]:
    """Every linear layer and convolution of the UNet, and the linear layers of both text encoders."""
    for block, resnets, depth, sampler, first in BLOCKS:
        side, number = first.split(".")
        for index, (inside, outside) in enumerate(resnets):
            here = f"{side}.{int(number) + index}"
            yield from _resnet(f"{block}.resnets.{index}", f"{here}.0", inside, outside)
            if depth:
                yield from _transformer(f"{block}.attentions.{index}", f"{here}.1", outside, depth)
        width, last = resnets[-1][1], int(number) + len(resnets)
        if sampler == "downsamplers":
            single = f"{side}.{last}.0.op"
            yield Module("denoiser", f"{block}.downsamplers.0.conv", single, (width, width, 3, 3))
        elif sampler:
            single = f"{side}.{last - 1}.2.conv"
            yield Module("denoiser", f"{block}.upsamplers.0.conv", single, (width, width, 3, 3))
    for index in (0, 1):
        yield from _resnet(f"mid_block.resnets.{index}", f"middle_block.{2 * index}", 1280, 1280)
    yield from _transformer("mid_block.attentions.0", "middle_block.1", 1280, 10)
    for name, single, shape in (
        ("conv_in", "input_blocks.0.0", (320, 4, 3, 3)),
        ("conv_out", "out.2", (4, 320, 3, 3)),
        ("time_embedding.linear_1", "time_embed.0", (EMBED, 320)),
        ("time_embedding.linear_2", "time_embed.2", (EMBED, EMBED)),
        ("add_embedding.linear_1", "label_emb.0.0", (EMBED, ADM)),
        ("add_embedding.linear_2", "label_emb.0.2", (EMBED, EMBED)),
    ):
        yield Module("denoiser", name, single, shape)
    yield from _clip("text-encoder", 12, 768)
    yield from _clip("text-encoder-2", 32, 1280)


def _resnet(name: str, single: str, inside: int, outside: int) -> Iterator[Module]:
    yield Module("denoiser", f"{name}.conv1", f"{single}.in_layers.2", (outside, inside, 3, 3))
    yield Module("denoiser", f"{name}.conv2", f"{single}.out_layers.3", (outside, outside, 3, 3))
    yield Module("denoiser", f"{name}.time_emb_proj", f"{single}.emb_layers.1", (outside, EMBED))
    if inside != outside:
        yield Module("denoiser", f"{name}.conv_shortcut", f"{single}.skip_connection", (outside, inside, 1, 1))


def _transformer(name: str, single: str, width: int, depth: int) -> Iterator[Module]:
    shapes: list[tuple[str, tuple[int, int]]] = [("proj_in", (width, width)), ("proj_out", (width, width))]
    for index in range(depth):
        block = f"transformer_blocks.{index}"
        for attention, source in (("attn1", width), ("attn2", CONTEXT)):
            shapes += [(f"{block}.{attention}.to_q", (width, width)), (f"{block}.{attention}.to_out.0", (width, width))]
            shapes += [(f"{block}.{attention}.to_{letter}", (width, source)) for letter in "kv"]
        shapes += [(f"{block}.ff.net.0.proj", (8 * width, width)), (f"{block}.ff.net.2", (width, 4 * width))]
    for tail, shape in shapes:
        yield Module("denoiser", f"{name}.{tail}", f"{single}.{tail}", shape)


def _clip(component: Component, layers: int, width: int) -> Iterator[Module]:
    for index in range(layers):
        block = f"text_model.encoder.layers.{index}"
        for letter in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield same(component, f"{block}.self_attn.{letter}", (width, width))
        yield same(component, f"{block}.mlp.fc1", (4 * width, width))
        yield same(component, f"{block}.mlp.fc2", (width, 4 * width))


SPELLINGS = {
    "comfy": KOHYA_NAMES,
    "kohya": KOHYA_NAMES,
    "diffusers": Spelling(
        {"denoiser": "unet.", "text-encoder": "text_encoder.", "text-encoder-2": "text_encoder_2."},
        flat=False,
        single=False,
        style="lora_A",
        alpha="folded",
    ),
}

KEY_MAP: KeyMap = {
    **{prefix.text: "either" for prefix in PREFIXES if prefix.naming != "peft"},
    "diffusion_model.": "single",
}


def _comfy(loader: str, lora: Lora) -> Outcome:
    if lora.layout.naming in ("diffusers", "bare") and lora.layout.style != "_lora.down":
        why = "diffusers names of SDXL with lora_A were not tried; kohya's load everywhere"
        return Outcome(loader, "unknown", (), why)
    return by_key_map(loader, KEY_MAP, lora)


def _diffusers(lora: Lora) -> Outcome:
    other = any(adapter.prefix.text == "lora_transformer_" for adapter in lora.adapters)
    return by_diffusers(lora, _refusal(lora), not other and lora.layout.naming in ("kohya", "diffusers"))


def _refusal(lora: Lora) -> str:
    if lora.layout.naming == "kohya":
        return ""
    if has_alpha(lora):
        return "it wants 'lora' in every name, and alpha's have none"
    if lora.layout.naming == "diffusers" and styles(lora) & {"lora_down", "lora_A.default"}:
        return "with this prefix it expects lora_A and lora_B"
    return ""


READ = "ComfyUI's map of the keys of a UNet; diffusers names with lora_A were not tried"
LOADERS = (
    Loader(COMFY_OLD, partial(_comfy, COMFY_OLD), READ),
    Loader(COMFY, partial(_comfy, COMFY), READ),
    Loader(DIFFUSERS, _diffusers, "tried with every layout on a small SDXL model, diffusers 0.42"),
)

ADAPTERS = LoraSupport(table=Table(modules), spellings=SPELLINGS, loaders=LOADERS)
