"""The names of single files turned into those of diffusers' and transformers' classes.

| part         | single file                               | class                                     |
|--------------|-------------------------------------------|-------------------------------------------|
| transformer  | `attention.qkv`, rows of q, k and v       | `attention.to_q`, `to_k`, `to_v`          |
|              | `attention.out`, `q_norm`, `k_norm`       | `attention.to_out.0`, `norm_q`, `norm_k`  |
|              | `x_embedder`, `final_layer`               | `all_x_embedder.2-1`, `all_final_layer...`|
|              | `norm_final`, which nothing uses          |                                           |
| VAE          | as CompVis named it                       | as diffusers names it                     |

Each function takes values by name and `split(value, parts, part)`, which gives one of the equal parts of a value's
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


_SHORT = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def vae_names(values: Mapping[str, Value]) -> dict[str, Value]:
    """Under the names of `AutoencoderKL`; values that have them already stay."""
    levels = max((int(found[1]) for name in values if (found := re.match(r"decoder\.up\.(\d+)\.", name))), default=0)

    def up(found: re.Match[str]) -> str:
        return f"decoder.up_blocks.{levels - int(found[1])}."

    made: dict[str, Value] = {}
    for name, value in values.items():
        name = re.sub(r"^decoder\.up\.(\d+)\.", up, name)  # noqa: PLW2901
        name = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)  # noqa: PLW2901
        name = re.sub(r"(_blocks\.\d+)\.block\.", r"\1.resnets.", name)  # noqa: PLW2901
        name = re.sub(r"(_blocks\.\d+)\.downsample\.", r"\1.downsamplers.0.", name)  # noqa: PLW2901
        name = re.sub(r"(_blocks\.\d+)\.upsample\.", r"\1.upsamplers.0.", name)  # noqa: PLW2901
        name = name.replace(".nin_shortcut.", ".conv_shortcut.").replace(".norm_out.", ".conv_norm_out.")  # noqa: PLW2901
        name = re.sub(r"\.mid\.block_([12])\.", lambda it: f".mid_block.resnets.{int(it[1]) - 1}.", name)  # noqa: PLW2901
        name = re.sub(  # noqa: PLW2901
            r"\.mid\.attn_1\.(norm|q|k|v|proj_out)\.", lambda it: f".mid_block.attentions.0.{_SHORT[it[1]]}.", name
        )
        made[name] = value
    return made
