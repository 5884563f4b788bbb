"""Frozen weights in 8 bits: half the memory of bf16, computed with in the model's own precision."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 448.0
"""Of float8 e4m3."""


class _Product(torch.autograd.Function):
    """x W^T for a frozen W, of which backward keeps the 8 bits only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return torch.nn.functional.linear(x, weight.to(x.dtype) * scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        weight, scale = ctx.saved_tensors
        return grads[0] @ (weight.to(grads[0].dtype) * scale), None, None


class Linear8(torch.nn.Module):
    """A linear layer whose frozen weight lies in float8 e4m3 with one scale a row (relative error below 1/16)."""

    weight: Tensor
    scale: Tensor
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Linear) -> None:
        torch.nn.Module.__init__(self)
        weight, scale = self.stored(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = layer.bias
        self.in_features, self.out_features = layer.in_features, layer.out_features

    @staticmethod
    def stored(weight: Tensor) -> tuple[Tensor, Tensor]:
        """A weight in 8 bits, and its rows' scales in the weight's own type."""
        rows = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LARGEST
        return (weight.float() / rows).to(torch.float8_e4m3fn), rows.to(weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output in the precision that its weight had."""
        product = _Product.apply(x.to(self.scale.dtype), self.weight, self.scale)
        return product if self.bias is None else product + self.bias


def store_in_8_bits(denoiser: nn.Module, pattern: str) -> int:
    """Replaces, in place, every frozen linear layer whose name the expression `pattern` matches; returns how many."""
    whole: Any = denoiser
    found: list[tuple[Any, str, Any]] = [
        (parent, name, child)
        for place, parent in whole.named_modules()
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear
        and not child.weight.requires_grad
        and re.fullmatch(pattern, f"{place}.{name}")
    ]
    for parent, name, child in found:
        setattr(parent, name, Linear8(child))
    return len(found)
