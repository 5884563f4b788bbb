"""LoRAs of PixArt: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `PixArtTransformer2DModel`, ComfyUI `comfy/utils.py`. Single files fuse q, k and v of
self-attention, and k and v of attention to text.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, fused
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH, TEXT, SIZE = 1152, 4096, 384
"""Widths of its tokens, of the text's states, of the embedding of the image's size."""


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer; those for the size of the image are PixArt-alpha's."""
    for index in range(28):
        here, there = f"transformer_blocks.{index}", f"blocks.{index}"
        square = (WIDTH, WIDTH)
        yield from fused("denoiser", f"{there}.attn.qkv", *((f"{here}.attn1.to_{letter}", square) for letter in "qkv"))
        yield Module("denoiser", f"{here}.attn1.to_out.0", f"{there}.attn.proj", square)
        yield Module("denoiser", f"{here}.attn2.to_q", f"{there}.cross_attn.q_linear", square)
        parts = [(f"{here}.attn2.to_{letter}", square) for letter in "kv"]
        yield from fused("denoiser", f"{there}.cross_attn.kv_linear", *parts)
        yield Module("denoiser", f"{here}.attn2.to_out.0", f"{there}.cross_attn.proj", square)
        yield Module("denoiser", f"{here}.ff.net.0.proj", f"{there}.mlp.fc1", (4 * WIDTH, WIDTH))
        yield Module("denoiser", f"{here}.ff.net.2", f"{there}.mlp.fc2", (WIDTH, 4 * WIDTH))
    for name, single, shape in (
        ("pos_embed.proj", "x_embedder.proj", (WIDTH, 4, 2, 2)),
        ("adaln_single.linear", "t_block.1", (6 * WIDTH, WIDTH)),
        ("caption_projection.linear_1", "y_embedder.y_proj.fc1", (WIDTH, TEXT)),
        ("caption_projection.linear_2", "y_embedder.y_proj.fc2", (WIDTH, WIDTH)),
        ("proj_out", "final_layer.linear", (32, WIDTH)),
    ):
        yield Module("denoiser", name, single, shape)
    for name, single, width in (("timestep", "t", WIDTH), ("resolution", "csize", SIZE), ("aspect_ratio", "ar", SIZE)):
        here, there = f"adaln_single.emb.{name}_embedder", f"{single}_embedder.mlp"
        yield Module("denoiser", f"{here}.linear_1", f"{there}.0", (width, 256))
        yield Module("denoiser", f"{here}.linear_2", f"{there}.2", (width, width))


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"transformer_blocks[._]\d+[._](attn[12]|ff)[._]|(^|[._])blocks[._]\d+[._](attn|cross_attn|mlp)[._]",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=tuple(KeyRule(prefix) for prefix in ("transformer.", "base_model.model.", "unet.base_model.model.")),
    loaders=(OWN_LAYOUT,),
)
