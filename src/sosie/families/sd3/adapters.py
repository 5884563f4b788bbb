"""LoRAs of Stable Diffusion 3: the modules that they adapt in each size, and what ComfyUI reads of them.

Source of the modules: diffusers `SD3Transformer2DModel`, ComfyUI `comfy/utils.py`. The last block does not use what it
makes of the text: it has no output and no feed-forward layers for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sosie.lora.architectures.encoders import clip_g, clip_l, t5_xxl
from sosie.lora.keymap import CLIP, T5, KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, fused
from sosie.lora.spellings import KOHYA_NAMES, Spelling

SIZES = (("3 medium", 24, 0), ("3.5 medium", 24, 13), ("3.5 large", 38, 0))
"""Title, blocks (each has 64 rows of width), blocks with a second attention."""

POOLED, TEXT = 2048, 4096


def modules(depth: int, twice: int) -> Iterator[Module]:
    """Every linear layer of the transformer, and those of its text encoders."""
    width = 64 * depth
    for index in range(depth):
        yield from _block(index, width, index < twice, index == depth - 1)
    for name, single, shape in (
        ("pos_embed.proj", "x_embedder.proj", (width, 16, 2, 2)),
        ("context_embedder", "context_embedder", (width, TEXT)),
        ("time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0", (width, 256)),
        ("time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2", (width, width)),
        ("time_text_embed.text_embedder.linear_1", "y_embedder.mlp.0", (width, POOLED)),
        ("time_text_embed.text_embedder.linear_2", "y_embedder.mlp.2", (width, width)),
        ("proj_out", "final_layer.linear", (64, width)),
    ):
        yield Module("denoiser", name, single, shape)
    turned = "final_layer.adaLN_modulation.1"
    yield Module("denoiser", "norm_out.linear", turned, (2 * width, width), turned=True)
    yield from clip_l()
    yield from clip_g()
    yield from t5_xxl("text-encoder-3")


def _block(index: int, width: int, twice: bool, last: bool) -> Iterator[Module]:
    here, there = f"transformer_blocks.{index}", f"joint_blocks.{index}"
    for name, single, there_is in (("attn", "x_block.attn", True), ("attn2", "x_block.attn2", twice)):
        if there_is:
            parts = [(f"{here}.{name}.to_{letter}", (width, width)) for letter in "qkv"]
            yield from fused("denoiser", f"{there}.{single}.qkv", *parts)
            yield Module("denoiser", f"{here}.{name}.to_out.0", f"{there}.{single}.proj", (width, width))
    parts = [(f"{here}.attn.add_{letter}_proj", (width, width)) for letter in "qkv"]
    yield from fused("denoiser", f"{there}.context_block.attn.qkv", *parts)
    if not last:
        output = f"{there}.context_block.attn.proj"
        yield Module("denoiser", f"{here}.attn.to_add_out", output, (width, width))
    for feed, norm, side, used in (("ff", "norm1", "x", True), ("ff_context", "norm1_context", "context", not last)):
        block = f"{there}.{side}_block"
        if used:
            yield Module("denoiser", f"{here}.{feed}.net.0.proj", f"{block}.mlp.fc1", (4 * width, width))
            yield Module("denoiser", f"{here}.{feed}.net.2", f"{block}.mlp.fc2", (width, 4 * width))
        vectors = 9 if side == "x" and twice else 6 if used else 2
        single, shape = f"{block}.adaLN_modulation.1", (vectors * width, width)
        yield Module("denoiser", f"{here}.{norm}.linear", single, shape, turned=not used)


TABLES = tuple(Table(partial(modules, *size), title) for title, *size in SIZES)

KEYS = (
    *(KeyRule(prefix) for prefix in ("transformer.", "base_model.model.")),
    *(KeyRule(prefix, flat=True) for prefix in ("lora_transformer_", "lycoris_")),
    *CLIP,
    *T5,
)

ADAPTERS = LoraSupport(
    table=TABLES[0],
    sizes=TABLES[1:],
    named=r"joint_blocks[._]\d|transformer_blocks[._]\d|encoder[._]",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling(
            {"denoiser": "transformer.", "text-encoder": "text_encoder.", "text-encoder-2": "text_encoder_2."},
            *(False, False, "lora_A", "folded"),
        ),
    },
    keys=KEYS,
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_sd3", "sd-scripts"),),
)
