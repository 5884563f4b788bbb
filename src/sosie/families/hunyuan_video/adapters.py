"""LoRAs of HunyuanVideo: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `HunyuanVideoTransformer3DModel`, ComfyUI `comfy/lora.py`. ComfyUI calls the modules as
FLUX.1's are called; the names of the first publication (`img_attn_qkv`, `mlp.fc1`) are read behind two prefixes, those
of diffusers are not.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.architectures.streams import blocks, embedder
from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling

WIDTH, POOLED = 3072, 768
"""Widths of its tokens, and of the pooled text."""


def modules() -> Iterator[Module]:
    """Every linear layer of the blocks, and of the layers around them."""
    yield from blocks(WIDTH, doubles=20, singles=40)
    yield Module("denoiser", "x_embedder.proj", "img_in.proj", (WIDTH, 16, 1, 2, 2))
    for name, single, inside in (("timestep", "time", 256), ("guidance", "guidance", 256), ("text", "vector", POOLED)):
        yield from embedder(f"time_text_embed.{name}_embedder", f"{single}_in", WIDTH, inside)
    yield Module("denoiser", "proj_out", "final_layer.linear", (64, WIDTH))


RENAMED = (
    ("_mod.lin.", "_mod.linear."),
    (".modulation.lin.", ".modulation.linear."),
    ("_attn.qkv.", "_attn_qkv."),
    ("_attn.proj.", "_attn_proj."),
    ("mlp.0.", "mlp.fc1."),
    ("mlp.2.", "mlp.fc2."),
)


def first_name(single: str) -> str:
    """What the first publication calls a module."""
    name = f"{single}."
    for new, old in RENAMED:
        name = name.replace(new, old)
    return name[:-1]


ADAPTERS = LoraSupport(
    table=Table(modules, other=first_name),
    named=r"(double|single)_blocks[._]\d|transformer_blocks[._]\d",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule("transformer.", first_name), KeyRule("diffusion_model.", first_name)),
    loaders=(OWN_LAYOUT,),
)
