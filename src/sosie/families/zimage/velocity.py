"""What Z-Image's transformer predicts, for a batch, as one function of tensors.

diffusers' own `ZImageTransformer2DModel.forward` takes lists of pictures and texts of any length, and asks for their
lengths on the way. Here everything that depends on them (`layout`) is made on the CPU before, so that a pass is the
same every time, can be captured as a CUDA graph, and needs a mask only where texts of a batch differ in length. The
modules, and what they compute, are diffusers'.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

MULTIPLE = 32
"""Texts and pictures are filled up to a multiple of so many tokens; what fills them is attended to like the rest."""

PATCH = 2
"""Latent pixels on a side of a token."""

KEY = "2-1"
"""diffusers' name for patches of 2 x 2 pixels and one frame."""

LARGE = 2**21
"""Numbers of a block's input for which compiling pays: below that a graph hides what kernels cost to launch."""

Tensors = dict[str, Tensor]
_functional: Any = nn.functional
_flex: Any = importlib.import_module("torch.nn.attention.flex_attention")
"""Its backward pass sums in one order, faster than flash attention's deterministic one does; only compiled."""


class Config(Protocol):
    """What is read of the transformer's configuration."""

    axes_dims: Sequence[int]
    rope_theta: float
    t_scale: float
    in_channels: int


def layout(config: Config, size: tuple[int, int], lengths: Sequence[int]) -> Tensors:
    """Where the tokens of a batch are, on the CPU: latents of height and width `size`, texts of so many tokens.

    `picture_angles` [n, tokens, 2, head / 2] and `text_angles` are cosines and sines of RoPE's angles: a text stands at
    frames 1, 2..., its picture at the frame after the filled-up text. `filling` [n, longest] is True where a text has
    ended. `seen` [n, tokens], only where the filled-up lengths differ, is False where no token is.
    """
    rows, columns = (side // PATCH for side in size)
    filled = [up(length) for length in lengths]
    longest = max(filled)
    frames = torch.arange(1, longest + 1)
    nowhere = torch.zeros_like(frames)
    text = torch.stack([frames, nowhere, nowhere], dim=-1).expand(len(lengths), -1, -1)
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    more = up(rows * columns) - rows * columns
    pictures: list[Tensor] = []
    for length in filled:
        places = torch.cat([torch.full((len(grid), 1), length + 1), grid], dim=1)
        pictures.append(nn.functional.pad(places, (0, 0, 0, more)))
    ends = torch.tensor(lengths)[:, None]
    made = {
        "picture_angles": angles(config, torch.stack(pictures)),
        "text_angles": angles(config, text),
        "filling": frames[None] > ends,
    }
    if len(set(filled)) > 1:
        of_text = frames[None] <= torch.tensor(filled)[:, None]
        made["seen"] = torch.cat([of_text.new_ones(len(lengths), len(grid) + more), of_text], dim=1)
    return made


def up(count: int) -> int:
    """The next multiple of 32."""
    return -(-count // MULTIPLE) * MULTIPLE


def angles(config: Config, places: Tensor) -> Tensor:
    """Cosines and sines [..., 2, head / 2] of RoPE (arXiv:2104.09864) over three axes, float32, for places [..., 3]."""
    parts: list[Tensor] = []
    for axis, width in enumerate(config.axes_dims):
        steps = torch.arange(0, width, 2, dtype=torch.float64) / width
        parts.append((places[..., axis, None].double() / config.rope_theta**steps).float())
    turned = torch.cat(parts, dim=-1)
    return torch.stack([turned.cos(), turned.sin()], dim=-2)


def velocity(transformer: Any, given: Mapping[str, Tensor], *, again: bool = False) -> Tensor:
    """x0 - noise, as the model predicts it, [n, 16, h, w] in its own precision.

    `given` has `noisy` [n, 16, h, w], `levels` [n] (0 to 1: how much of it is noise), `states` [n, longest, width] of
    the texts, and what `layout` made. With `again` layers are computed again in the backward pass.
    """
    noisy, states = given["noisy"], given["states"]
    dtype = transformer.all_x_embedder[KEY].bias.dtype
    noise = transformer.t_embedder((1 - given["levels"]) * transformer.config.t_scale).to(dtype)
    picture = _picture(transformer, noisy.to(dtype), given["picture_angles"].shape[1])
    text = transformer.cap_embedder(states.to(dtype))
    text = torch.where(given["filling"][..., None], transformer.cap_pad_token, text)
    mask = given.get("seen")
    pictured, told = picture.shape[1], text.shape[1]
    for layer in transformer.noise_refiner:
        picture = _block(layer, picture, noise, given["picture_angles"], None)
    for layer in transformer.context_refiner:
        text = _block(layer, text, None, given["text_angles"], None if mask is None else mask[:, -told:])
    tokens = torch.cat([picture, text], dim=1)
    turned = torch.cat([given["picture_angles"], given["text_angles"]], dim=1)
    block = _compiled() if _pays(tokens) else _block
    step = partial(_checkpointed, block) if again and torch.is_grad_enabled() else block
    for layer in transformer.layers:
        tokens = step(layer, tokens, noise, turned, mask)
    out: Tensor = transformer.all_final_layer[KEY](tokens[:, :pictured], c=noise)
    return _pixels(out, noisy)


def _checkpointed(function: Callable[..., Tensor], *given: Any) -> Tensor:
    """Nothing here is random, and the state of a generator cannot be read while a graph is captured."""
    return cast(Any, checkpoint).checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)


def _picture(transformer: Any, noisy: Tensor, tokens: int) -> Tensor:
    """The embedded tokens of latents [n, 16, h, w], row by row, filled up."""
    count, channels, height, width = noisy.shape
    split = noisy.view(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    patches = split.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, PATCH * PATCH * channels)
    embedded: Tensor = transformer.all_x_embedder[KEY](patches)
    more = tokens - embedded.shape[1]
    if not more:
        return embedded
    return torch.cat([embedded, transformer.x_pad_token.expand(count, more, -1)], dim=1)


def _pixels(out: Tensor, like: Tensor) -> Tensor:
    """Tokens back to latents."""
    count, channels, height, width = like.shape
    rows, columns = height // PATCH, width // PATCH
    split = out[:, : rows * columns].view(count, rows, columns, PATCH, PATCH, channels)
    return split.permute(0, 5, 1, 3, 2, 4).reshape(count, channels, height, width)


def _block(layer: Any, x: Tensor, noise: Tensor | None, turned: Tensor, mask: Tensor | None) -> Tensor:
    """One `ZImageTransformerBlock` (of refiners of texts without `noise`)."""
    if noise is None:
        x = x + _norm(layer.attention_norm2, _attention(layer.attention, _norm(layer.attention_norm1, x), turned, mask))
        return x + _norm(layer.ffn_norm2, _feed(layer.feed_forward, _norm(layer.ffn_norm1, x)))
    scale, gate, scale_feed, gate_feed = layer.adaLN_modulation(noise)[:, None].chunk(4, dim=2)
    turned_in = _norm(layer.attention_norm1, x) * (1 + scale)
    attended = _attention(layer.attention, turned_in, turned, mask)
    x = x + gate.tanh() * _norm(layer.attention_norm2, attended)
    fed = _feed(layer.feed_forward, _norm(layer.ffn_norm1, x) * (1 + scale_feed))
    return x + gate_feed.tanh() * _norm(layer.ffn_norm2, fed)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return _functional.rms_norm(x, x.shape[-1:], norm.weight, norm.eps)


def _feed(feed: Any, x: Tensor) -> Tensor:
    return feed.w2(_functional.silu(feed.w1(x)) * feed.w3(x))


def _attention(attention: Any, x: Tensor, turned: Tensor, mask: Tensor | None) -> Tensor:
    query, key, value = (
        part(x).unflatten(-1, (attention.heads, -1)) for part in (attention.to_q, attention.to_k, attention.to_v)
    )
    cosines, sines = turned[:, :, None].unbind(dim=-2)
    query = _turn(_norm(attention.norm_q, query), cosines, sines)
    key = _turn(_norm(attention.norm_k, key), cosines, sines)
    heads = [part.transpose(1, 2) for part in (query, key, value)]
    if mask is None and x.is_cuda and torch.compiler.is_compiling():
        made = _flex.flex_attention(*heads)
    else:
        seen = None if mask is None else mask[:, None, None]
        made = _functional.scaled_dot_product_attention(*heads, attn_mask=seen)
    return attention.to_out[0](made.transpose(1, 2).flatten(2))


def _pays(tokens: Tensor) -> bool:
    """Whether layers that learn from such tokens are better compiled."""
    return tokens.is_cuda and tokens.numel() >= LARGE and torch.is_grad_enabled() and find_spec("triton") is not None


@cache
def _compiled() -> Callable[..., Tensor]:
    """`_block` as one code for all layers and all sizes, with the same bits in every process.

    Inductor would else try on the spot which order of sums is fastest. Beyond the sizes and forms that torch keeps code
    for, a layer is computed as if it had not been compiled.
    """
    inductor: Any = importlib.import_module("torch._inductor.config")
    options = {"deterministic": True} if hasattr(inductor, "deterministic") else {}
    compiler: Any = torch
    return compiler.compile(_block, dynamic=True, options=options)


def _turn(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Each pair of neighbouring numbers of [n, tokens, heads, head], turned by its angle, in float32."""
    wide = cast(Any, x.float()).unflatten(-1, (-1, 2))
    first, second = wide[..., 0], wide[..., 1]
    pairs = torch.stack([first * cosines - second * sines, first * sines + second * cosines], dim=-1)
    return pairs.flatten(-2).to(x.dtype)
