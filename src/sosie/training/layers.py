"""A linear layer with its LoRA in as few passes over memory as there can be.

peft computes base, down, up, product and sum one after another, each a kernel with its own trip to memory,
and casts the input to the type of the LoRA's weights in between. Here the LoRA is added by the last matrix
product itself, forward and backward (`addmm`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


class _Adapted(torch.autograd.Function):
    """x W^T + b + amount (x A^T) B^T for a frozen W [out, in], down A [rank, in] and up B [out, rank].

    With a `scale` [out, 1] the weight lies in 8 bits and stands for W scale; backward keeps the 8 bits only.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, weight, scale, bias, down, up, amount = given
        rows = x.reshape(-1, x.shape[-1])
        low = (rows @ down.t()) * amount
        made = torch.nn.functional.linear(rows, _dense(weight, scale, x.dtype), bias).addmm_(low, up.t())
        ctx.save_for_backward(rows, low, weight, scale, down, up)
        ctx.amount = amount
        return made.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, weight, scale, down, up = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        slope = (grad @ up) * ctx.amount
        back = None
        if ctx.needs_input_grad[0]:
            back = (grad @ _dense(weight, scale, grad.dtype)).addmm_(slope, down)
            back = back.view(*grads[0].shape[:-1], -1)
        return back, None, None, None, slope.t() @ rows, grad.t() @ low, None


def _dense(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    return weight if scale is None else weight.to(dtype) * scale


def quicken(module: Any, adapter: str) -> None:
    """Gives a LoRA layer of peft this way of computing, if what it adapts is linear; the numbers stay the same.

    Its matrices must have the type that the layer computes in, and the adapter must have no dropout. Its class is
    changed, not its method: to a compiler all such layers are then one code.
    """
    if hasattr(module.base_layer, "in_features"):
        module.quick_adapter = adapter
        module.__class__ = _quick(module.__class__)


@cache
def _quick(kind: Any) -> Any:
    """A class of peft with this way of computing."""
    return type(f"Quick{kind.__name__}", (kind,), {"forward": _forward})


def _forward(self: Any, x: Tensor) -> Tensor:
    adapter, base = self.quick_adapter, self.base_layer
    down, up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
    scale = getattr(base, "scale", None)
    return _Adapted.apply(x.to(down.dtype), base.weight, scale, base.bias, down, up, self.scaling[adapter])
