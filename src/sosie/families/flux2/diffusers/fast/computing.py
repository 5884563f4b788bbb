"""What the blocks of FLUX.2 compute, as functions of tensors that Inductor compiles once for all blocks of a kind.

The same sums as diffusers' `Flux2TransformerBlock` and `Flux2SingleTransformerBlock`, but that norms and rotations are
rounded once, and q, k and v of a stream come from one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sosie.diffusion.products import Weight, as_weight, attended, joined, rms, times, turned, turned_heads

EPS = 1e-6


class Stream(NamedTuple):
    """Weights of one stream of a double block: q, k and v by rows; norms of a head's queries and keys are [head]."""

    qkv: Weight
    out: Weight
    gated: Weight
    down: Weight
    norm_q: Tensor
    norm_k: Tensor


class Double(NamedTuple):
    """A block of two streams."""

    head: int
    picture: Stream
    text: Stream


class Single(NamedTuple):
    """A block of one stream: `inward` makes q, k, v and the gated layer's halves, `outward` takes what they made."""

    head: int
    inward: Weight
    outward: Weight
    norm_q: Tensor
    norm_k: Tensor


def double_of(stock: Any, *, fp8: bool = False) -> Double:
    """A block's weights; the stock layers' become views of the joined ones."""
    attention, to = stock.attn, as_weight(fp8)
    streams = (
        (picture_qkv(attention), attention.to_out[0], stock.ff, attention.norm_q, attention.norm_k),
        (text_qkv(attention), attention.to_add_out, stock.ff_context, attention.norm_added_q, attention.norm_added_k),
    )
    picture, text = (
        Stream(
            to(joined(qkv)),
            to(out.weight.data),
            to(feed.linear_in.weight.data),
            to(feed.linear_out.weight.data),
            norm_q.weight.data,
            norm_k.weight.data,
        )
        for qkv, out, feed, norm_q, norm_k in streams
    )
    return Double(attention.head_dim, picture, text)


def single_of(stock: Any, *, fp8: bool = False) -> Single:
    """A block's weights."""
    attention, to = stock.attn, as_weight(fp8)
    inward, outward = to(attention.to_qkv_mlp_proj.weight.data), to(attention.to_out.weight.data)
    return Single(attention.head_dim, inward, outward, attention.norm_q.weight.data, attention.norm_k.weight.data)


def picture_qkv(attention: Any) -> list[Any]:
    """The layers of the picture's stream that are one product."""
    return [attention.to_q, attention.to_k, attention.to_v]


def text_qkv(attention: Any) -> list[Any]:
    """Those of the text's."""
    return [attention.add_q_proj, attention.add_k_proj, attention.add_v_proj]


def run_double(
    picture: Tensor, text: Tensor, levels: tuple[Tensor, Tensor], cosines: Tensor, sines: Tensor, block: Double
) -> tuple[Tensor, Tensor]:
    """Tokens of picture and text [1, n, width] after a block.

    `levels` are the modulations of the two streams [1, 1, 6 width]; `cosines` and `sines` float32 [n, 1, head / 2], the
    text's first.
    """
    of_picture, of_text = (one.float().chunk(6, dim=-1) for one in levels)
    heads = [
        _heads(times(_modulated(tokens, shifts), stream.qkv), stream, block.head)
        for tokens, shifts, stream in ((text, of_text, block.text), (picture, of_picture, block.picture))
    ]
    queries, keys, values = (torch.cat(parts, dim=1) for parts in zip(*heads, strict=True))
    dtype = picture.dtype
    seen = attended(turned(queries, cosines, sines).to(dtype), turned(keys, cosines, sines).to(dtype), values)
    words = text.shape[1]
    text = _after(text, seen[:, :words], of_text, block.text)
    return _after(picture, seen[:, words:], of_picture, block.picture), text


def run_single(tokens: Tensor, level: Tensor, cosines: Tensor, sines: Tensor, block: Single) -> Tensor:
    """Tokens of text and picture [1, n, width] after a block; `level` is its modulation [1, 1, 3 width]."""
    shift, scale, gate = level.float().chunk(3, dim=-1)
    made = times(_modulated(tokens, (shift, scale)), block.inward)
    width = tokens.shape[-1]
    norms, heads = (block.norm_q, block.norm_k), width // block.head
    queries, keys = turned_heads(made, heads, norms, (cosines, sines), EPS)
    values = made[..., 2 * width : 3 * width].view(*made.shape[:-1], heads, block.head)
    both = torch.cat([attended(queries, keys, values), _gated(made[..., 3 * width :])], dim=-1)
    return (tokens.float() + gate * times(both, block.outward).float()).to(tokens.dtype)


def _heads(made: Tensor, stream: Stream, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normed queries and keys in float32, and values, [1, n, heads, head]."""
    queries, keys, values = (part.view(*part.shape[:-1], -1, head) for part in made.chunk(3, dim=-1))
    return rms(queries, stream.norm_q, EPS), rms(keys, stream.norm_k, EPS), values


def _after(tokens: Tensor, seen: Tensor, levels: Sequence[Tensor], stream: Stream) -> Tensor:
    tokens = (tokens.float() + levels[2] * times(seen, stream.out).float()).to(tokens.dtype)
    fed = times(_gated(times(_modulated(tokens, levels[3:5]), stream.gated)), stream.down)
    return (tokens.float() + levels[5] * fed.float()).to(tokens.dtype)


def _modulated(tokens: Tensor, levels: Sequence[Tensor]) -> Tensor:
    """A layer norm without weights (arXiv:1607.06450), shifted and scaled."""
    shift, scale = levels[0], levels[1]
    normal = functional.layer_norm(tokens.float(), (tokens.shape[-1],), eps=EPS)
    return (normal * (1 + scale) + shift).to(tokens.dtype)


def _gated(made: Tensor) -> Tensor:
    opens, passes = made.chunk(2, dim=-1)
    return (functional.silu(opens.float()) * passes.float()).to(made.dtype)
