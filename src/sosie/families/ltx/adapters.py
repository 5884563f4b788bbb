"""LoRAs of LTX-Video and LTX-2: the modules that they adapt in each size, and what ComfyUI reads of them.

Source of the modules: diffusers `LTXVideoTransformer3DModel` and `LTX2VideoTransformer3DModel`; single files call the
blocks alike and the layers around them otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sosie.lora.keymap import KeyRule
from sosie.lora.loaders import OWN_LAYOUT
from sosie.lora.lora import LoraSupport
from sosie.lora.modules import Module, Table, same
from sosie.lora.spellings import KOHYA_NAMES, Spelling

SOUND, CAPTION, LATENT = 2048, 4096, 128
"""Widths of the stream of sound, of the text's states, of the latents."""


def modules(width: int, depth: int, caption: int = CAPTION) -> Iterator[Module]:
    """Every linear layer of the transformer of pictures."""
    for index in range(depth):
        block = f"transformer_blocks.{index}"
        yield from _attention(f"{block}.attn1", width, width, width)
        yield from _attention(f"{block}.attn2", width, width, width)
        yield from _feed(f"{block}.ff", width)
    yield from _around("", "", width, caption, 6)


def with_sound() -> Iterator[Module]:
    """LTX-2: pictures, sound, and attention between them."""
    width = 4096
    yield from modules(width, 48, 3840)
    for index in range(48):
        block = f"transformer_blocks.{index}"
        yield from _attention(f"{block}.audio_attn1", SOUND, SOUND, SOUND)
        yield from _attention(f"{block}.audio_attn2", SOUND, SOUND, SOUND)
        yield from _attention(f"{block}.audio_to_video_attn", width, SOUND, SOUND)
        yield from _attention(f"{block}.video_to_audio_attn", SOUND, width, SOUND)
        yield from _feed(f"{block}.audio_ff", SOUND)
    yield from _around("audio_", "audio_", SOUND, 3840, 6)


def _attention(name: str, width: int, source: int, inner: int) -> Iterator[Module]:
    """Queries from `width`, keys and values from `source`, `inner` wide between."""
    yield same("denoiser", f"{name}.to_q", (inner, width))
    yield same("denoiser", f"{name}.to_k", (inner, source))
    yield same("denoiser", f"{name}.to_v", (inner, source))
    yield same("denoiser", f"{name}.to_out.0", (width, inner))


def _feed(name: str, width: int) -> Iterator[Module]:
    yield same("denoiser", f"{name}.net.0.proj", (4 * width, width))
    yield same("denoiser", f"{name}.net.2", (width, 4 * width))


def _around(split: str, single: str, width: int, caption: int, vectors: int) -> Iterator[Module]:
    time, adaln = f"{split}time_embed", f"{single}adaln_single"
    for name, other, shape in (
        (f"{split}proj_in", f"{single}patchify_proj", (width, LATENT)),
        (f"{time}.emb.timestep_embedder.linear_1", f"{adaln}.emb.timestep_embedder.linear_1", (width, 256)),
        (f"{time}.emb.timestep_embedder.linear_2", f"{adaln}.emb.timestep_embedder.linear_2", (width, width)),
        (f"{time}.linear", f"{adaln}.linear", (vectors * width, width)),
        (f"{split}proj_out", f"{single}proj_out", (LATENT, width)),
        (f"{split}caption_projection.linear_1", f"{single}caption_projection.linear_1", (width, caption)),
        (f"{split}caption_projection.linear_2", f"{single}caption_projection.linear_2", (width, width)),
    ):
        yield Module("denoiser", name, other, shape)


ADAPTERS = LoraSupport(
    table=Table(partial(modules, 2048, 28), "2B"),
    sizes=(Table(partial(modules, 4096, 48), "13B"), Table(with_sound, "LTX-2")),
    named=r"transformer_blocks[._]\d+[._](audio_)?(attn[12]|ff)[._]",
    spellings={
        "kohya": KOHYA_NAMES,
        "diffusers": Spelling({"denoiser": "transformer."}, False, False, "lora_A", "folded"),
    },
    keys=(KeyRule("", "single", since="2026-06-08"),),
    loaders=(OWN_LAYOUT,),
)
"""ComfyUI reads its own names without a prefix since #14349, and never `transformer.`."""
