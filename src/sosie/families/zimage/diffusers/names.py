"""The names of single files turned into those of diffusers' class; the VAE's are `diffusion.autoencoder`'s matter.

| part         | single file                               | class                                     |
|--------------|-------------------------------------------|-------------------------------------------|
| transformer  | `attention.qkv`, rows of q, k and v       | `attention.to_q`, `to_k`, `to_v`          |
|              | `attention.out`, `q_norm`, `k_norm`       | `attention.to_out.0`, `norm_q`, `norm_k`  |
|              | `x_embedder`, `final_layer`               | `all_x_embedder.2-1`, `all_final_layer...`|
|              | `norm_final`, which nothing uses          |                                           |

It takes values by name and `split(value, parts, part)`, which gives one of the equal parts of a value's
rows; so shapes are renamed as tensors are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

Value = TypeVar("Value")
Split = Callable[[Value, int, int], Value]

UNUSED = ("norm_final.weight",)

_RENAMED = (
    (r"\.attention\.out\.", ".attention.to_out.0."),
    (r"\.attention\.q_norm\.", ".attention.norm_q."),
    (r"\.attention\.k_norm\.", ".attention.norm_k."),
    (r"^x_embedder\.", "all_x_embedder.2-1."),
    (r"^final_layer\.", "all_final_layer.2-1."),
)
_FUSED = ".attention.qkv."


def transformer_names(values: Mapping[str, Value], split: Split[Value]) -> dict[str, Value]:
    """Under the names of `ZImageTransformer2DModel`; values that have them already stay."""
    made: dict[str, Value] = {}
    for name, value in values.items():
        if name in UNUSED:
            continue
        if _FUSED in name:
            for place, letter in enumerate("qkv"):
                made[name.replace(_FUSED, f".attention.to_{letter}.")] = split(value, 3, place)
            continue
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)  # noqa: PLW2901
        made[name] = value
    return made
