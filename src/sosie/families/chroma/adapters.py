"""LoRAs of Chroma: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `ChromaTransformer2DModel`. ComfyUI makes the same names of its modules as of
FLUX.1's, so that a LoRA of FLUX.1 that leaves the modulation alone looks the same and loads.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.architectures.encoders import t5_xxl
from sosie.lora.architectures.streams import blocks
from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH, GUIDANCE = 3072, 5120
"""Widths of its tokens, and of the network that makes its modulation."""


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer, and of T5."""
    yield from blocks(WIDTH, doubles=19, singles=38, modulated=False)
    yield Module("denoiser", "x_embedder", "img_in", (WIDTH, 64))
    yield Module("denoiser", "context_embedder", "txt_in", (WIDTH, 4096))
    yield Module("denoiser", "proj_out", "final_layer.linear", (64, WIDTH))
    guidance = "distilled_guidance_layer"
    yield same("denoiser", f"{guidance}.in_proj", (GUIDANCE, 64))
    yield same("denoiser", f"{guidance}.out_proj", (WIDTH, GUIDANCE))
    for index in range(5):
        layer = f"{guidance}.layers.{index}"
        yield Module("denoiser", f"{layer}.linear_1", f"{layer}.in_layer", (GUIDANCE, GUIDANCE))
        yield Module("denoiser", f"{layer}.linear_2", f"{layer}.out_layer", (GUIDANCE, GUIDANCE))
    yield from t5_xxl("text-encoder")


BLOCKS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")),
    *("attn.to_out.0", "attn.to_add_out", ".proj", ".net.2", "proj_mlp", "proj_out", "x_embedder", "context_embedder"),
)
"""Ends of diffusers' names that ComfyUI reads: those that FLUX.1 has too."""

KEYS = (
    KeyRule("transformer.", only=BLOCKS),
    *(KeyRule(prefix, flat=True, only=BLOCKS) for prefix in ("lycoris_", "lora_transformer_")),
    KeyRule("", since="2026-01-23", only=BLOCKS),
    KeyRule("lora_te1_", flat=True, component="text-encoder"),
)

ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(double|single)_blocks[._]\d|transformer_blocks[._]\d",
    like="flux1",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=KEYS,
    loaders=(OWN_LAYOUT,),
)
