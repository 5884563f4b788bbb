"""Which of FLUX.2's weights may stay packed while it draws."""

from __future__ import annotations

import re

_HELD = re.compile(
    r"(single_)?transformer_blocks\.\d+\.(attn|ff|ff_context)\.\w+(\.0)?"
    r"|double_blocks\.\d+\.(img|txt)_(attn\.(qkv|proj)|mlp\.[02])|single_blocks\.\d+\.linear[12]"
    r"|layers\.\d+\.(self_attn|mlp)\.\w+|blk\.\d+\.(attn_(q|k|v|output)|ffn_(gate|up|down))"
)


def held_packed(module: str) -> bool:
    """Whether a linear layer of the transformer or the text encoder may stay packed.

    Attention and feed-forward of the blocks, by diffusers', transformers', ComfyUI's or llama.cpp's names; all else is
    small, and delicate.
    """
    return _HELD.fullmatch(module) is not None
