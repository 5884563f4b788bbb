"""What blocks of transformers compute, as functions of tensors that Inductor compiles: products, norms, rotations.

Weights are multiplied joined, and in fp8 by choice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from sosie.diffusion import kernels
from sosie.diffusion.kernels import LARGEST

FP8 = (8, 9)
"""The compute capability of the first cards with products in fp8: Ada; Hopper followed."""

SHAPES = 64
"""Shapes that may be compiled in one process before Inductor gives up."""


class Fp8Weight(NamedTuple):
    """A matrix in float8 e4m3 [out, in] with a scale in float32 for each output, [1, out]."""

    values: Tensor
    scale: Tensor

    @staticmethod
    def of(weight: Tensor) -> Fp8Weight:
        """The nearest one to a matrix [out, in]."""
        scale = weight.float().abs().amax(1).clamp_min(1e-12) / LARGEST
        return Fp8Weight((weight.float() / scale[:, None]).to(torch.float8_e4m3fn), scale[None])


Weight = Tensor | Fp8Weight
"""A matrix [out, in]."""


def times(rows: Tensor, weight: Weight) -> Tensor:
    """`rows` [batch, n, in] times a matrix [out, in], in the rows' type; fp8 with a scale for each row and output."""
    if not isinstance(weight, Fp8Weight):
        return functional.linear(rows, weight)
    flat = rows.flatten(0, -2).float()
    scale = flat.abs().amax(-1, keepdim=True).clamp_min(1e-12) / LARGEST
    return _product((flat / scale).to(torch.float8_e4m3fn), scale, weight, rows)


def gated_times(both: Tensor, weight: Weight) -> Tensor:
    """SiLU of the first half of rows [batch, n, 2 * in] times the second, times a matrix [out, in]."""
    if isinstance(weight, Fp8Weight) and kernels.usable(both):
        return _product(*kernels.gated_in_eight(both.flatten(0, -2)), weight, both)
    opens, passes = both.chunk(2, dim=-1)
    return times((functional.silu(opens.float()) * passes.float()).to(both.dtype), weight)


def _product(eight: Tensor, scale: Tensor, weight: Fp8Weight, like: Tensor) -> Tensor:
    """Rows [n, in] in fp8 with a scale each [n, 1], times a matrix; type and leading axes are those of `like`."""
    aten: Any = torch.ops.aten
    out: Tensor = aten._scaled_mm(
        eight, weight.values.t(), scale_a=scale, scale_b=weight.scale, out_dtype=like.dtype, use_fast_accum=True
    )
    return out.view(*like.shape[:-1], -1)


def rms(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm (arXiv:1910.07467) in float32."""
    rows = rows.float()
    return rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + eps) * weight.float()


def turned(rows: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864) of neighbouring pairs."""
    pairs = rows.view(*rows.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    return torch.stack([first * cosines - second * sines, first * sines + second * cosines], dim=-1).flatten(-2)


def turned_heads(
    both: Tensor, heads: int, norms: tuple[Tensor, Tensor], turns: tuple[Tensor, Tensor], eps: float
) -> tuple[Tensor, Tensor]:
    """Queries and keys [batch, n, heads, head], normed and rotated, of q, k and more side by side [batch, n, wide].

    `norms` are the weights [head] of their RMS norms, `turns` cosines and sines, float32 [n, 1, head / 2].
    """
    head = norms[0].shape[0]
    if both.shape[0] == 1 and kernels.usable(both, head):
        return kernels.turned(both, heads, norms, turns, eps)
    queries, keys = both[..., : 2 * heads * head].view(*both.shape[:-1], 2, heads, head).unbind(-3)
    queries, keys = (turned(rms(one, norm, eps), *turns) for one, norm in ((queries, norms[0]), (keys, norms[1])))
    return queries.to(both.dtype), keys.to(both.dtype)


def attended(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention [batch, n, width] of heads' queries, keys and values, each [batch, n, heads, head]."""
    made = functional.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
    )
    return made.transpose(1, 2).flatten(2)


def as_weight(fp8: bool) -> Callable[[Tensor], Weight]:
    """What makes a matrix ready to be multiplied by: in fp8, or as it is."""
    return Fp8Weight.of if fp8 else _same


def joined(layers: Sequence[nn.Linear]) -> Tensor:
    """The layers' matrices one below the other; the layers' own become views of it, so nothing is held twice."""
    whole = torch.cat([layer.weight.data for layer in layers])
    parts: tuple[Tensor, ...] = torch.split(whole, [layer.weight.shape[0] for layer in layers])  # pyright: ignore
    for layer, rows in zip(layers, parts, strict=True):
        layer.weight.data = rows
    return whole


def separate(layers: Sequence[nn.Linear]) -> None:
    """Weights of their own again, where they are views of a joined one."""
    for layer in layers:
        if layer.weight.untyped_storage().nbytes() > layer.weight.nbytes:
            layer.weight.data = layer.weight.data.clone()


@cache
def compiled(function: Callable[..., Any]) -> Any:
    """A function of tensors compiled by Inductor, once a process for each set of shapes."""
    return torch.compile(function, fullgraph=True, dynamic=False, options={"coordinate_descent_tuning": True})


@contextmanager
def fast_kernels() -> Generator[None]:
    """Attention by cuDNN first, the fastest on Hopper; room for the shapes of several sizes."""
    from torch import _dynamo

    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    config: Any = _dynamo.config
    with config.patch(recompile_limit=SHAPES), sdpa_kernel(order, set_priority=True):
        yield


def unfit_weights(model: Any, *, graph: bool, fp8: bool) -> str:
    """Why a model's weights do not let it be made fast, or nothing."""
    tensors: list[Tensor] = list(model.parameters())
    if graph and {tensor.device.type for tensor in tensors} != {"cuda"}:
        return "it is not on a GPU as a whole"
    if len({tensor.dtype for tensor in tensors}) != 1:
        return "its weights have more than one type"
    if fp8 and model.dtype is not torch.bfloat16:
        return f"products in fp8 give bf16, and it computes in {model.dtype}"
    if fp8 and graph and torch.cuda.get_device_capability() < FP8:
        return f"{torch.cuda.get_device_name()} has none; expected compute capability 8.9 or more"
    if any(hasattr(module, "base_layer") for module in model.modules()):
        return "it has LoRA layers beside its weights; merged into them they would not stand in the way"
    if any(type(module).__name__ == "PackedLinear" for module in model.modules()):
        return "its weights stay packed"
    return ""


def _same(weight: Tensor) -> Weight:
    return weight
