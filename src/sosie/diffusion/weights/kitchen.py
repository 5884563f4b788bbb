"""Weights in formats of ComfyUI's own that its library comfy-kitchen (Apache-2.0) turns into numbers, on any device."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sosie.core.errors import MissingExtraError

HINT = "pip install 'sosie[kitchen]', or take the file in bf16 instead"


def turned_back(rotated: Tensor, scale: Tensor, group: int) -> Tensor:
    """float32 [rows, columns] of int8 weights that were rotated in groups of columns; `scale` is one a row or one."""
    found: Tensor = _quantization().dequantize_int8_convrot_weight(rotated, scale.float(), group)
    return found


def from_nvfp4(packed: Tensor, blocks: Tensor, whole: Tensor) -> Tensor:
    """float32 [rows, columns] of pairs of 4-bit numbers, a scale for 16 of them (`blocks`) and one for all (`whole`).

    `blocks` lie in the order that the GPU's product wants, as ComfyUI saves them.
    """
    found: Tensor = _quantization().dequantize_nvfp4(packed, whole.float(), blocks, output_type=torch.float32)
    return found


def is_group(group: object, columns: int) -> bool:
    """Whether columns can have been rotated in groups of that many: a power of 4."""
    return type(group) is int and 4 <= group <= 2**12 and math.log(group, 4).is_integer() and columns % group == 0


def _quantization() -> Any:
    try:
        from comfy_kitchen.backends.eager import quantization
    except ImportError:
        raise MissingExtraError("this storage is read with the package comfy-kitchen", HINT) from None

    return quantization
