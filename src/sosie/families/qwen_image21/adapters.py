"""LoRAs of Qwen-Image 2.1: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `QwenImage21Transformer2DModel`; ComfyUI fuses the two halves of a gated layer.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, fused, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH, FEED = 4096, 12288


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer."""
    for index in range(32):
        block = f"transformer_blocks.{index}"
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            yield same("denoiser", f"{block}.attn.{name}", (WIDTH, WIDTH))
        halves = [(f"{block}.img_mlp.{name}", (FEED, WIDTH)) for name in ("gate_layer", "proj")]
        yield from fused("denoiser", f"{block}.img_mlp.gate_up", *halves)
        yield same("denoiser", f"{block}.img_mlp.out", (WIDTH, FEED))
    for name, shape in (
        ("img_in", (WIDTH, 64)),
        ("txt_in.in_layer", (WIDTH, WIDTH)),
        ("txt_in.out_layer", (WIDTH, WIDTH)),
        ("modulation.1", (4 * WIDTH, WIDTH)),
        ("time_text_embed.timestep_embedder.linear_1", (WIDTH, 256)),
        ("time_text_embed.timestep_embedder.linear_2", (WIDTH, WIDTH)),
        ("norm_out.linear", (WIDTH, WIDTH)),
        ("proj_out", (64, WIDTH)),
    ):
        yield same("denoiser", name, shape)


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"transformer_blocks[._]\d",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule(""), KeyRule("transformer."), KeyRule("lycoris_", flat=True)),
    loaders=(OWN_LAYOUT,),
)
