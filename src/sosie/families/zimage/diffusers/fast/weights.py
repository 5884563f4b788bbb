"""The weights of Z-Image's blocks as the fast transformer multiplies them: joined, and in fp8 by choice."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from sosie.diffusion import products
from sosie.diffusion.products import Weight, as_weight, joined
from sosie.families.zimage.diffusers import parts


class Modulation(NamedTuple):
    """Of a block by the noise level: [4 * width, in] and [4 * width]."""

    weight: Tensor
    bias: Tensor


class Block(NamedTuple):
    """A block's weights: `qkv` is to_q, to_k, to_v and `gated` is w1, w3, by rows; norms are [width] or [head]."""

    heads: int
    qkv: Weight
    out: Weight
    gated: Weight
    down: Weight
    norms: tuple[Tensor, Tensor, Tensor, Tensor]
    norm_q: Tensor
    norm_k: Tensor
    modulation: Modulation | None


def block_of(stock: parts.Block, *, fp8: bool = False) -> Block:
    """A block's weights, joined; the stock layers' become views of them, so nothing is held twice.

    With `fp8` the four large products get matrices of their own.
    """
    attention, feed = stock.attention, stock.feed_forward
    qkv = joined([attention.to_q, attention.to_k, attention.to_v])
    gated = joined([feed.w1, feed.w3])
    to = as_weight(fp8)
    norms = (stock.attention_norm1, stock.attention_norm2, stock.ffn_norm1, stock.ffn_norm2)
    mod = stock.adaLN_modulation[0] if stock.modulation else None
    return Block(
        heads=attention.heads,
        qkv=to(qkv),
        out=to(attention.to_out[0].weight.data),
        gated=to(gated),
        down=to(feed.w2.weight.data),
        norms=(_weight(norms[0]), _weight(norms[1]), _weight(norms[2]), _weight(norms[3])),
        norm_q=_weight(attention.norm_q),
        norm_k=_weight(attention.norm_k),
        modulation=None if mod is None else Modulation(mod.weight.data, mod.bias.data),
    )


def separate(stock: parts.Block) -> None:
    """Weights of their own again, where they are views of a joined one."""
    attention, feed = stock.attention, stock.feed_forward
    products.separate([attention.to_q, attention.to_k, attention.to_v, feed.w1, feed.w3])


def _weight(norm: nn.Module) -> Tensor:
    held: Any = norm.weight
    return held.data
