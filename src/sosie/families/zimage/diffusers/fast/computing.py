"""What a block of Z-Image computes, as a function of tensors that Inductor compiles once for all blocks.

The same sums as diffusers' `ZImageTransformerBlock`, with these differences: rotations are real (Inductor does not
join complex ones with what stands beside them), norms and rotations are rounded once, q, k, v and the two halves of the
gated layer come from one product each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sosie.families.zimage.diffusers.fast.weights import LARGEST, Block, Fp8Weight, Weight

EPS = 1e-5


def run_block(tokens: Tensor, cosines: Tensor, sines: Tensor, level: Tensor | None, block: Block) -> Tensor:
    """Tokens [batch, n, width] after a block.

    `cosines` and `sines` are float32 [n, 1, head / 2]. `level` is the embedded noise level [batch, in], None for a
    block without modulation.
    """
    norm_in, norm_attended, norm_feed, norm_fed = block.norms
    one = torch.ones((), device=tokens.device)
    scale_in, gate_in, scale_feed, gate_feed = one, one, one, one
    if block.modulation is not None and level is not None:
        modulation = functional.linear(level, block.modulation.weight, block.modulation.bias).float().unsqueeze(1)
        scale_in, gate_in, scale_feed, gate_feed = modulation.chunk(4, dim=2)
        scale_in, scale_feed = 1 + scale_in, 1 + scale_feed
        gate_in, gate_feed = gate_in.tanh(), gate_feed.tanh()
    normal = (_rms(tokens, norm_in) * scale_in).to(tokens.dtype)
    attended = times(_attention(times(normal, block.qkv), cosines, sines, block), block.out)
    tokens = (tokens.float() + gate_in * _rms(attended, norm_attended)).to(tokens.dtype)
    normal = (_rms(tokens, norm_feed) * scale_feed).to(tokens.dtype)
    opens, passes = times(normal, block.gated).chunk(2, dim=-1)
    fed = times((functional.silu(opens.float()) * passes.float()).to(tokens.dtype), block.down)
    return (tokens.float() + gate_feed * _rms(fed, norm_fed)).to(tokens.dtype)


def times(rows: Tensor, weight: Weight) -> Tensor:
    """`rows` [batch, n, in] times a matrix [out, in], in the rows' type; fp8 with a scale for each row and output."""
    if not isinstance(weight, Fp8Weight):
        return functional.linear(rows, weight)
    flat = rows.flatten(0, -2).float()
    scale = flat.abs().amax(-1, keepdim=True).clamp_min(1e-12) / LARGEST
    eight = (flat / scale).to(torch.float8_e4m3fn)
    aten: Any = torch.ops.aten
    out: Tensor = aten._scaled_mm(
        eight, weight.values.t(), scale_a=scale, scale_b=weight.scale, out_dtype=rows.dtype, use_fast_accum=True
    )
    return out.view(*rows.shape[:-1], -1)


def _attention(joined: Tensor, cosines: Tensor, sines: Tensor, block: Block) -> Tensor:
    queries, keys, values = (part.view(*part.shape[:-1], block.heads, -1) for part in joined.chunk(3, dim=-1))
    queries = _turned(_rms(queries, block.norm_q), cosines, sines).to(joined.dtype)
    keys = _turned(_rms(keys, block.norm_k), cosines, sines).to(joined.dtype)
    attended = functional.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
    )
    return attended.transpose(1, 2).flatten(2)


def _rms(rows: Tensor, weight: Tensor) -> Tensor:
    """RMS norm (arXiv:1910.07467) in float32."""
    rows = rows.float()
    return rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + EPS) * weight.float()


def _turned(rows: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864) of neighbouring pairs."""
    pairs = rows.view(*rows.shape[:-1], -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    return torch.stack([first * cosines - second * sines, first * sines + second * cosines], dim=-1).flatten(-2)
