"""LoRAs of FLUX.2: the modules that they adapt in each size, and what ComfyUI reads of them.

Source of the modules: diffusers `Flux2Transformer2DModel`, `scripts/convert_flux2_to_diffusers.py`. A single block's
first layer makes q, k, v and both halves of a gated feed-forward layer; diffusers keeps it whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sosie.lora.architectures.streams import double_attention, double_feed, embedder
from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling

SIZES = (("klein 9B", 4096, 8, 24, 12288), ("klein 4B", 3072, 5, 20, 7680), ("dev", 6144, 8, 48, 15360))
"""Title, width, blocks of two streams, blocks of one, width of the text's states."""


def modules(width: int, doubles: int, singles: int, text: int) -> Iterator[Module]:
    """Every linear layer of the transformer."""
    for index in range(doubles):
        yield from double_attention(index, width)
        yield from double_feed(index, width, 6 * width, 3 * width, ("linear_in", "linear_out"))
    for index in range(singles):
        here, there = f"single_transformer_blocks.{index}.attn", f"single_blocks.{index}"
        yield Module("denoiser", f"{here}.to_qkv_mlp_proj", f"{there}.linear1", (9 * width, width))
        yield Module("denoiser", f"{here}.to_out", f"{there}.linear2", (width, 4 * width))
    for name, rows in (("double_stream_modulation_img", 6), ("double_stream_modulation_txt", 6)):
        yield Module("denoiser", f"{name}.linear", f"{name}.lin", (rows * width, width))
    name = "single_stream_modulation"
    yield Module("denoiser", f"{name}.linear", f"{name}.lin", (3 * width, width))
    yield Module("denoiser", "x_embedder", "img_in", (width, 128))
    yield Module("denoiser", "context_embedder", "txt_in", (width, text))
    yield from embedder("time_guidance_embed.timestep_embedder", "time_in", width, 256)
    yield from embedder("time_guidance_embed.guidance_embedder", "guidance_in", width, 256)
    turned = "final_layer.adaLN_modulation.1"
    yield Module("denoiser", "norm_out.linear", turned, (2 * width, width), turned=True)
    yield Module("denoiser", "proj_out", "final_layer.linear", (128, width))


TABLES = tuple(Table(partial(modules, *size), title) for title, *size in SIZES)

ALWAYS = (
    *(f"attn.{name}" for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")),
    *("attn.to_out.0", "attn.to_add_out", "x_embedder", "context_embedder", "norm_out.linear", "proj_out"),
)
SINGLE_BLOCKS, FEED = ("attn.to_qkv_mlp_proj", "attn.to_out"), (".linear_in", ".linear_out")
DAYS = (("", ALWAYS), ("2026-01-20", SINGLE_BLOCKS), ("2026-01-21", FEED))
"""Since when ComfyUI reads which of diffusers' names: those of FLUX.1 always, others by #11981 and #11997."""

KEYS = (
    *(
        KeyRule(prefix, flat=flat, since=day, only=names)
        for prefix, flat in (("transformer.", False), ("lycoris_", True), ("lora_transformer_", True))
        for day, names in DAYS
    ),
    KeyRule("", since="2026-01-23", only=(*ALWAYS, *SINGLE_BLOCKS, *FEED)),
)
"""Without a prefix since #12042."""

ADAPTERS = LoraSupport(
    table=TABLES[0],
    sizes=TABLES[1:],
    reduced=True,
    named=r"(double|single)_blocks[._]\d|transformer_blocks[._]\d|stream_modulation",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=KEYS,
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_flux_2", "musubi-tuner"),),
)
