"""LoRAs of Hunyuan-DiT: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `HunyuanDiT2DModel`, ComfyUI `ldm/hydit`. Single files fuse q, k and v of
self-attention, and k and v of attention to text. ComfyUI reads the names of the first publication alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.families.hunyuan_dit.signature import WIDTH
from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, fused
from sosie.lora.spellings import KOHYA_NAMES, Spelling

FEED, TEXT, DEPTH = 6144, 1024, 40


def modules() -> Iterator[Module]:
    """Every linear layer of the blocks."""
    square = (WIDTH, WIDTH)
    for index in range(DEPTH):
        block = f"blocks.{index}"
        yield from fused(
            "denoiser", f"{block}.attn1.Wqkv", *((f"{block}.attn1.to_{letter}", square) for letter in "qkv")
        )
        yield Module("denoiser", f"{block}.attn1.to_out.0", f"{block}.attn1.out_proj", square)
        yield Module("denoiser", f"{block}.attn2.to_q", f"{block}.attn2.q_proj", square)
        parts = [(f"{block}.attn2.to_{letter}", (WIDTH, TEXT)) for letter in "kv"]
        yield from fused("denoiser", f"{block}.attn2.kv_proj", *parts)
        yield Module("denoiser", f"{block}.attn2.to_out.0", f"{block}.attn2.out_proj", square)
        yield Module("denoiser", f"{block}.ff.net.0.proj", f"{block}.mlp.fc1", (FEED, WIDTH))
        yield Module("denoiser", f"{block}.ff.net.2", f"{block}.mlp.fc2", (WIDTH, FEED))
        yield Module("denoiser", f"{block}.norm1.linear", f"{block}.default_modulation.1", square)
        if index > DEPTH // 2:
            yield Module("denoiser", f"{block}.skip_linear", f"{block}.skip_linear", (WIDTH, 2 * WIDTH))


ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"(^|[._])blocks[._]\d+[._](attn[12]|mlp|ff|default_modulation|skip_linear)[._]?",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule("base_model.model.", "single"),),
    loaders=(OWN_LAYOUT,),
)
