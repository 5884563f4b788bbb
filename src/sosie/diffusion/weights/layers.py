"""A linear layer whose weight stays packed in memory, and becomes numbers for each product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sosie.diffusion.weights.packed import FLOAT8, Packed, dequantise

Product = Callable[["PackedLinear", Tensor], Tensor]
"""x W^T of a layer by other means, [..., rows]: a hook for faster kernels."""


class PackedLinear(nn.Module):
    """x W^T + bias, plus its LoRAs; W is [out_features, in_features] in 8 bits or GGUF's blocks.

    W becomes numbers in the precision of x for each product and is forgotten again, so memory holds the packed bytes
    and one layer's numbers. LoRAs of low rank stay beside it (`put_beside`): W is never rounded again. `product`, where
    set, replaces W's product alone (`scaled_product`).
    """

    packed: nn.Parameter
    scale: nn.Parameter | None
    bias: nn.Parameter | None
    down: Tensor | None
    up: Tensor | None
    whole: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, dtype: torch.dtype) -> None:
        torch.nn.Module.__init__(self)
        self.kind = packed.kind
        self.dtype = dtype
        self.out_features, self.in_features = packed.shape
        # Parameters: offloading layer by layer takes these. uint8: what casts a model's numbers passes it by.
        self.packed = _frozen(packed.data)
        self.scale = None if packed.scale is None else _frozen(packed.scale)
        self.bias = None if bias is None else _frozen(bias)
        self.down = self.up = self.whole = None
        self.product: Product | None = None

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """W without LoRAs, [out_features, in_features]."""
        numbers = dequantise(self.kind, self.packed, self.scale, dtype)
        return numbers.reshape(self.out_features, self.in_features)

    def put_beside(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Adds up D to W for each pair D [rank, in_features], U [out_features, rank], in place of those before.

        They are rounded to the layer's precision (`dtype`), and so is x D^T: the sum differs from a W that was merged
        in float32 by about the precision's own step of the LoRA's part.
        """
        device = self.packed.device
        self._put("whole", None)
        self._put("down", torch.cat([down for down, _ in pairs]).to(device, self.dtype) if pairs else None)
        self._put("up", torch.cat([up for _, up in pairs], 1).to(device, self.dtype) if pairs else None)

    def unpack(self, whole: Tensor) -> None:
        """Uses W = `whole` in 16 bits until `put_beside`: for changes that have no low rank."""
        self.put_beside(())
        self._put("whole", whole.to(self.packed.device, self.dtype))

    def _put(self, name: str, value: Tensor | None) -> None:
        """A tensor that moves with the layer. One that is not there is no buffer: accelerate asks each for a device."""
        self._buffers.pop(name, None)
        self.__dict__.pop(name, None)
        if value is None:
            setattr(self, name, None)
        else:
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The output in the precision of `x`."""
        linear = torch.nn.functional.linear
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.whole is not None:
            return linear(x, self.whole.to(x.dtype), bias)
        if self.product is not None:
            out = self.product(self, x)
            out = out if bias is None else out + bias
        else:
            out = linear(x, self.dequantised(x.dtype), bias)
        if self.down is None or self.up is None:
            return out
        return out + linear(linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))

    def extra_repr(self) -> str:
        """Shape and kind, for people."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


def _frozen(tensor: Tensor) -> nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


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
    weight = layer.packed.view(FLOAT8[layer.kind]).t()
    out: Tensor = library._scaled_mm(rounded, weight, factors, columns, out_dtype=x.dtype)
    return out.reshape(*x.shape[:-1], layer.out_features)


def packed_layers(model: nn.Module) -> Mapping[str, PackedLinear]:
    """The layers of a model that are packed, by name."""
    whole: Any = model
    return {name: module for name, module in whole.named_modules() if isinstance(module, PackedLinear)}
