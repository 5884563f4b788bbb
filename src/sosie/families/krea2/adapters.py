"""LoRAs of Krea 2: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `Krea2Transformer2DModel`, ComfyUI `comfy/utils.py`. Keys and values have a quarter of
the heads.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH, KEYS, FEED, TEXT, TEXT_FEED = 6144, 1536, 16384, 2560, 6912
"""Widths of its tokens, of keys and values, of its feed-forward layers, of the text's states, of their layers."""


def modules() -> Iterator[Module]:
    """Every linear layer of the transformer, and of the small one that fuses the text."""
    for index in range(28):
        yield from _block(f"transformer_blocks.{index}", f"blocks.{index}", (WIDTH, KEYS, FEED))
    for index in range(2):
        for kind in ("layerwise_blocks", "refiner_blocks"):
            here, there = f"text_fusion.{kind}.{index}", f"txtfusion.{kind}.{index}"
            yield from _block(here, there, (TEXT, TEXT, TEXT_FEED))
    for name, single, shape in (
        ("img_in", "first", (WIDTH, 64)),
        ("time_embed.linear_1", "tmlp.0", (WIDTH, 256)),
        ("time_embed.linear_2", "tmlp.2", (WIDTH, WIDTH)),
        ("time_mod_proj", "tproj.1", (6 * WIDTH, WIDTH)),
        ("txt_in.linear_1", "txtmlp.1", (WIDTH, TEXT)),
        ("txt_in.linear_2", "txtmlp.3", (WIDTH, WIDTH)),
        ("text_fusion.projector", "txtfusion.projector", (1, 12)),
        ("final_layer.linear", "last.linear", (64, WIDTH)),
    ):
        yield Module("denoiser", name, single, shape)


def _block(here: str, there: str, widths: tuple[int, int, int]) -> Iterator[Module]:
    width, keys, feed = widths
    for name, single, rows in (("q", "q", width), ("k", "k", keys), ("v", "v", keys)):
        yield Module("denoiser", f"{here}.attn.to_{name}", f"{there}.attn.w{single}", (rows, width))
    yield Module("denoiser", f"{here}.attn.to_gate", f"{there}.attn.gate", (width, width))
    yield Module("denoiser", f"{here}.attn.to_out.0", f"{there}.attn.wo", (width, width))
    for name, shape in (("gate", (feed, width)), ("up", (feed, width)), ("down", (width, feed))):
        yield Module("denoiser", f"{here}.ff.{name}", f"{there}.mlp.{name}", shape)


def short_output(single: str) -> str:
    """Diffusers' name of an output without its `.0`, as some tools write it; empty for other modules."""
    name = single.replace("txtfusion.", "text_fusion.")
    name = f"transformer_{name}" if name.startswith("blocks.") else name
    return name.removesuffix("wo") + "to_out" if name.endswith(".attn.wo") else ""


PREFIXES = (("diffusion_model.", False), ("transformer.", False), ("lycoris_", True), ("", False))

ADAPTERS = LoraSupport(
    table=Table(modules),
    named=r"transformer_blocks[._]\d|(^|[._])blocks[._]\d+[._](attn|mlp)[._]|text_?fusion",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=tuple(KeyRule(prefix, names, flat) for names in ("split", short_output) for prefix, flat in PREFIXES),
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_krea2", "musubi-tuner"),),
)
