"""LoRAs of FLUX.1: the modules that they adapt, and what ComfyUI reads of them.

Source of the modules: diffusers `FluxTransformer2DModel`. A single block's q, k, v and feed-forward layer are one
weight in a single file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sosie.families.flux1.signature import WIDTH
from sosie.lora.architectures.encoders import clip_l, t5_xxl
from sosie.lora.architectures.streams import blocks, embedder
from sosie.lora.keymap import CLIP, T5, KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table
from sosie.lora.spellings import KOHYA_NAMES, Spelling


def modules(image: int) -> Iterator[Module]:
    """Every linear layer of the transformer, of CLIP-L and of T5; `image` are the channels that go in."""
    yield from blocks(WIDTH, doubles=19, singles=38)
    yield Module("denoiser", "x_embedder", "img_in", (WIDTH, image))
    yield Module("denoiser", "context_embedder", "txt_in", (WIDTH, 4096))
    for name, single, inside in (("timestep", "time", 256), ("guidance", "guidance", 256), ("text", "vector", 768)):
        yield from embedder(f"time_text_embed.{name}_embedder", f"{single}_in", WIDTH, inside)
    turned = "final_layer.adaLN_modulation.1"
    yield Module("denoiser", "norm_out.linear", turned, (2 * WIDTH, WIDTH), turned=True)
    yield Module("denoiser", "proj_out", "final_layer.linear", (64, WIDTH))
    yield from clip_l()
    # OneTrainer counts T5 as the second text encoder, sd-scripts as the third; ComfyUI reads both.
    yield from t5_xxl("text-encoder-2")
    yield from t5_xxl("text-encoder-3")


KEYS = (
    KeyRule("transformer."),
    *(KeyRule(prefix, flat=True) for prefix in ("lycoris_", "lora_transformer_")),
    KeyRule("", since="2026-01-23"),
    KeyRule("", "single", beside="single_blocks.0.norm.key_norm.scale"),
    *CLIP,
    *T5,
)
"""ComfyUI reads diffusers' names without a prefix since #12042."""

SPELLINGS = {
    "kohya": KOHYA_NAMES,
    "diffusers": Spelling(
        {"denoiser": "transformer.", "text-encoder": "text_encoder."}, False, False, "lora_A", "folded"
    ),
}

ADAPTERS = LoraSupport(
    table=Table(partial(modules, 64)),
    sizes=(Table(partial(modules, 128), "canny or depth"), Table(partial(modules, 384), "fill")),
    named=r"(double|single)_blocks[._]\d|transformer_blocks[._]\d",
    spellings=SPELLINGS,
    keys=KEYS,
    loaders=(OWN_LAYOUT,),
    software=(("networks.lora_flux", "sd-scripts"),),
)
