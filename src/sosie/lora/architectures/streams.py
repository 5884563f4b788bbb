"""The modules of transformers with blocks of two streams (image and text) and blocks of one.

Names of single files are the first publication's, those of the split layout diffusers'; the latter keeps q, k and v
apart. Sources: diffusers `FluxTransformer2DModel`, `scripts/convert_flux_to_diffusers.py`; ComfyUI `comfy/utils.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sosie.lora.modules import Module, fused

STREAMS = (("img", "to_{}", "to_out.0", "ff"), ("txt", "add_{}_proj", "to_add_out", "ff_context"))
"""A stream in a single file; and in diffusers its projections, its output, its feed-forward layers."""


def double_attention(index: int, width: int) -> Iterator[Module]:
    """q, k, v and the output of both streams of a block."""
    for stream, projection, output, _ in STREAMS:
        here, there = f"transformer_blocks.{index}.attn", f"double_blocks.{index}.{stream}_attn"
        parts = [(f"{here}.{projection.format(letter)}", (width, width)) for letter in "qkv"]
        yield from fused("denoiser", f"{there}.qkv", *parts)
        yield Module("denoiser", f"{here}.{output}", f"{there}.proj", (width, width))


def double_feed(index: int, width: int, inner: int, outer: int, names: tuple[str, str]) -> Iterator[Module]:
    """The feed-forward layers of both streams: `inner` rows, then `outer` columns; `names` are diffusers'."""
    for stream, _, _, feed in STREAMS:
        here, there = f"transformer_blocks.{index}.{feed}", f"double_blocks.{index}.{stream}_mlp"
        yield Module("denoiser", f"{here}.{names[0]}", f"{there}.0", (inner, width))
        yield Module("denoiser", f"{here}.{names[1]}", f"{there}.2", (width, outer))


def double_modulation(index: int, width: int) -> Iterator[Module]:
    """Six vectors for each stream."""
    for stream, name in (("img", "norm1"), ("txt", "norm1_context")):
        here, there = f"transformer_blocks.{index}.{name}.linear", f"double_blocks.{index}.{stream}_mod.lin"
        yield Module("denoiser", here, there, (6 * width, width))


def single_block(index: int, width: int, feed: int, modulated: bool) -> Iterator[Module]:
    """One stream: q, k, v and the feed-forward layer are one weight in a single file."""
    here, there = f"single_transformer_blocks.{index}", f"single_blocks.{index}"
    parts = [(f"{here}.attn.to_{letter}", (width, width)) for letter in "qkv"]
    yield from fused("denoiser", f"{there}.linear1", *parts, (f"{here}.proj_mlp", (feed, width)))
    yield Module("denoiser", f"{here}.proj_out", f"{there}.linear2", (width, width + feed))
    if modulated:
        yield Module("denoiser", f"{here}.norm.linear", f"{there}.modulation.lin", (3 * width, width))


def blocks(width: int, doubles: int, singles: int, modulated: bool = True) -> Iterator[Module]:
    """All blocks of a model whose feed-forward layers are four times as wide."""
    for index in range(doubles):
        yield from double_attention(index, width)
        yield from double_feed(index, width, 4 * width, 4 * width, ("net.0.proj", "net.2"))
        if modulated:
            yield from double_modulation(index, width)
    for index in range(singles):
        yield from single_block(index, width, 4 * width, modulated)


def embedder(name: str, single: str, width: int, inside: int) -> Iterator[Module]:
    """Two linear layers that make a vector of `width` from one of `inside`."""
    yield Module("denoiser", f"{name}.linear_1", f"{single}.in_layer", (width, inside))
    yield Module("denoiser", f"{name}.linear_2", f"{single}.out_layer", (width, width))
