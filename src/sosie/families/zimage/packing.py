"""Which of Z-Image's weights may stay packed, and what DFloat11 joins in a stream.

A stream has a block's linear weights in the order of the node pack that made the published files
(ComfyUI-DFloat11-Extended).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from sosie.core.errors import BadModelError
from sosie.files.safetensors import Header
from sosie.files.signature import COMFY

MODULATED = ("layers.", "noise_refiner.")
BLOCKS = ("layers.", "noise_refiner.", "context_refiner.")

_HELD = re.compile(
    r"(layers|noise_refiner|context_refiner)\.\d+\.(attention|feed_forward|self_attn|mlp)\.\w+(\.0)?"
    r"|blk\.\d+\.(attn_(q|k|v|output)|ffn_(gate|up|down))"
)


def held_packed(module: str) -> bool:
    """Whether a linear layer of the transformer or the text encoder may stay packed while the model draws.

    Attention and feed-forward of the blocks, by diffusers', transformers', ComfyUI's or llama.cpp's names; all else is
    small, and delicate.
    """
    return _HELD.fullmatch(module) is not None


def stream_members(block: str, sizes: Sequence[int], header: Header) -> list[tuple[str, tuple[int, ...]]]:
    """The weights in a block's DFloat11 stream; `sizes` are how many numbers each has. Raises `BadModelError`."""
    fused = f"{block}.attention.q_norm.weight" in header.tensors
    attention = ("qkv", "out") if fused else ("to_q", "to_k", "to_v", "to_out.0")
    own = block.removeprefix(COMFY)
    parts = [f"attention.{part}" for part in attention] + [f"feed_forward.w{number}" for number in (1, 2, 3)]
    parts += ["adaLN_modulation.0"] if own.startswith(MODULATED) else []
    if not own.startswith(BLOCKS) or len(parts) != len(sizes):
        raise BadModelError(
            f"'{block}' joins {len(sizes)} weights in a DFloat11 stream; {len(parts)} were expected",
            "take the file in bf16 instead",
        )
    named = dict(zip(parts, sizes, strict=True))
    width = math.isqrt(named[f"attention.{attention[-1]}"])  # the output's weight is square
    return [(f"{block}.{part}.weight", _shape(part, size, width)) for part, size in named.items()]


def _shape(part: str, size: int, width: int) -> tuple[int, ...]:
    if part == "feed_forward.w2":
        return (width, size // max(width, 1))
    if part.startswith("adaLN"):
        return (4 * width, size // max(4 * width, 1))
    return (size // max(width, 1), width)
