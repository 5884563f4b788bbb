"""What a block of Z-Image computes, as a function of tensors that Inductor compiles once for all blocks.

The same sums as diffusers' `ZImageTransformerBlock`, with these differences: rotations are real (Inductor does not
join complex ones with what stands beside them), norms and rotations are rounded once, q, k, v and the two halves of the
gated layer come from one product each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sosie.diffusion.products import attended, gated_times, rms, times, turned_heads
from sosie.families.zimage.diffusers.fast.weights import Block

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
    normal = (rms(tokens, norm_in, EPS) * scale_in).to(tokens.dtype)
    seen = times(_attention(times(normal, block.qkv), cosines, sines, block), block.out)
    tokens = (tokens.float() + gate_in * rms(seen, norm_attended, EPS)).to(tokens.dtype)
    normal = (rms(tokens, norm_feed, EPS) * scale_feed).to(tokens.dtype)
    fed = gated_times(times(normal, block.gated), block.down)
    return (tokens.float() + gate_feed * rms(fed, norm_fed, EPS)).to(tokens.dtype)


def _attention(joined: Tensor, cosines: Tensor, sines: Tensor, block: Block) -> Tensor:
    queries, keys = turned_heads(joined, block.heads, (block.norm_q, block.norm_k), (cosines, sines), EPS)
    values = joined.chunk(3, dim=-1)[2]
    values = values.view(*values.shape[:-1], block.heads, -1)
    return attended(queries, keys, values)
