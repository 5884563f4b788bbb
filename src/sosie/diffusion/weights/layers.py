"""A linear layer whose weight stays packed in memory, and becomes numbers for each product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sosie.diffusion.weights.packed import FLOAT8, Packed, dequantise

Product = Callable[["PackedLinear", Tensor], Tensor]
"""x W^T of a layer by other means, [..., rows]: a hook for faster kernels."""


class PackedLinear(nn.Module):
    """x W^T + bias, plus its LoRAs; W is [out_features, in_features] in 8 bits or GGUF's blocks.

    W becomes numbers in the precision of x for each product and is forgotten again, so memory holds the packed
    bytes and one layer's numbers. LoRAs stay beside it: W is never rounded again. `branches` are pairs
    [rank, in_features] and [out_features, rank], whose scale is in the second. `product`, where set, replaces W's
    product alone (`scaled_product`).
    """

    data: Tensor
    scale: Tensor | None
    bias: nn.Parameter | None

    def __init__(self, packed: Packed, bias: Tensor | None) -> None:
        torch.nn.Module.__init__(self)
        self.kind = packed.kind
        self.out_features, self.in_features = packed.shape
        # uint8: what casts a model's numbers passes it by.
        self.register_buffer("data", packed.data)
        self.register_buffer("scale", packed.scale)
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
        self.branches: dict[str, tuple[Tensor, Tensor]] = {}
        self.product: Product | None = None

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """W without LoRAs, [out_features, in_features]."""
        return dequantise(self.kind, self.data, self.scale, dtype).reshape(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """The output in the precision of `x`."""
        if self.product is not None:
            out = self.product(self, x)
            out = out if self.bias is None else out + self.bias.to(out.dtype)
        else:
            bias = None if self.bias is None else self.bias.to(x.dtype)
            out = torch.nn.functional.linear(x, self.dequantised(x.dtype), bias)
        for down, up in self.branches.values():
            out = out + torch.nn.functional.linear(torch.nn.functional.linear(x, down.to(x)), up.to(x))
        return out

    def extra_repr(self) -> str:
        """Shape and kind, for people."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


def scaled_product(layer: PackedLinear, x: Tensor) -> Tensor:
    """The product with W on the cores for 8 bits: x is rounded to float8 e4m3 by rows. On a GPU, kind F8_E4M3 alone.

    The error is that of both roundings; the first, last and modulation layers should not use it.
    """
    if layer.kind != "F8_E4M3":
        raise ValueError(f"scaled products need float8 e4m3, not {layer.kind}")
    rows = x.reshape(-1, layer.in_features)
    factors = (rows.abs().amax(dim=1, keepdim=True).float() / 448).clamp(min=1e-12)
    rounded = (rows.float() / factors).clamp(-448, 448).to(torch.float8_e4m3fn)
    scale = torch.ones((), device=x.device) if layer.scale is None else layer.scale
    columns = scale.float().reshape(1, -1).expand(1, layer.out_features).contiguous()
    library: Any = torch
    weight = layer.data.view(FLOAT8[layer.kind]).t()
    out: Tensor = library._scaled_mm(rounded, weight, factors, columns, out_dtype=x.dtype)
    return out.reshape(*x.shape[:-1], layer.out_features)


def packed_layers(model: nn.Module) -> Mapping[str, PackedLinear]:
    """The layers of a model that are packed, by name."""
    whole: Any = model
    return {name: module for name, module in whole.named_modules() if isinstance(module, PackedLinear)}
