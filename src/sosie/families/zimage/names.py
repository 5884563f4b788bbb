"""How the transformer's parameters (diffusers' names) are called in its files, and what DFloat11 joins.

Single files and GGUF have query, key and value of a block in one tensor, by rows in this order. DFloat11's streams have
a block's linear weights in the order of the node pack that made the published ones (ComfyUI-DFloat11-Extended).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sosie.core.errors import BadModelError
from sosie.diffusion.weights.sources import Source
from sosie.files.safetensors import Header
from sosie.files.signature import COMFY

QKV = ("attention.to_q.", "attention.to_k.", "attention.to_v.")
RENAMED = (
    ("all_x_embedder.2-1.", "x_embedder."),
    ("all_final_layer.2-1.", "final_layer."),
    ("attention.to_out.0.", "attention.out."),
    ("attention.norm_q.", "attention.q_norm."),
    ("attention.norm_k.", "attention.k_norm."),
)
"""Diffusers' names, and those of single files."""

MODULATED = ("layers.", "noise_refiner.")
KEPT = ("layers.", "noise_refiner.", "context_refiner.")
"""Blocks whose attention and feed-forward stay packed; all else is small, and delicate."""


def sources(parameters: Iterable[tuple[str, Sequence[int]]], names: frozenset[str]) -> dict[str, Source]:
    """Where the parameters (name and shape) are in a file with these `names`, a diffusers one or a single one."""
    split = any(name.startswith("all_x_embedder.") for name in names)
    return {name: Source(name) if split else _in_single_file(name, shape) for name, shape in parameters}


def _in_single_file(name: str, shape: Sequence[int]) -> Source:
    for place, part in enumerate(QKV):
        if part in name:
            rows = (place * shape[0], (place + 1) * shape[0])
            return Source(name.replace(part, "attention.qkv."), rows)
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return Source(name)


def kept_packed(module: str) -> bool:
    """Whether a linear layer may stay packed while the model draws."""
    return module.startswith(KEPT) and (".attention." in module or ".feed_forward." in module)


def stream_members(block: str, sizes: Sequence[int], header: Header) -> list[tuple[str, tuple[int, ...]]]:
    """The weights in a block's DFloat11 stream; `sizes` are how many numbers each has. Raises `BadModelError`."""
    fused = f"{block}.attention.q_norm.weight" in header.tensors
    attention = ("qkv", "out") if fused else ("to_q", "to_k", "to_v", "to_out.0")
    own = block.removeprefix(COMFY)
    parts = [f"attention.{part}" for part in attention] + [f"feed_forward.w{number}" for number in (1, 2, 3)]
    parts += ["adaLN_modulation.0"] if own.startswith(MODULATED) else []
    if not own.startswith(KEPT) or len(parts) != len(sizes):
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
