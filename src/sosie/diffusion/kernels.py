"""Two kernels in Triton where Inductor's own take two to four times as long; torch brings Triton on Linux.

Each reads its rows once and keeps them in registers. Inductor reads them twice: it sums over a row in a loop and then
begins again. Triton reads the source of its functions and takes no annotations but its own.
"""

# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportInvalidTypeForm=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

LARGEST = 448.0
"""The largest number of float8 e4m3 (arXiv:2209.05433)."""


def usable(rows: Tensor, *sizes: int) -> bool:
    """Whether these kernels take rows on this device; `sizes` must be powers of two."""
    return rows.is_cuda and HERE and rows.is_contiguous() and all(size & (size - 1) == 0 for size in sizes)


def turned(
    joined: Tensor, heads: int, norms: tuple[Tensor, Tensor], turns: tuple[Tensor, Tensor], eps: float
) -> tuple[Tensor, Tensor]:
    """Queries and keys [1, n, heads, head], normed and rotated, of q, k and more side by side [1, n, wide].

    `norms` are the weights [head] of the RMS norms of queries and keys, `turns` cosines and sines, float32 [n, 1,
    head / 2].
    """
    rows, size = joined.shape[1], norms[0].shape[0]
    queries = torch.empty(1, rows, heads, size, device=joined.device, dtype=joined.dtype)
    keys = torch.empty_like(queries)
    given = (joined, *norms, *turns, queries, keys, joined.shape[2], heads, eps, power_of_two(heads), size)
    _turn[(rows, 2)](*given, num_warps=4)
    return queries, keys


def gated_in_eight(gated: Tensor) -> tuple[Tensor, Tensor]:
    """SiLU of the first half of each row times the second, in float8 e4m3 [n, width], with its scale, float32 [n, 1].

    `gated` is [n, 2 * width]. The product is rounded to the type of `gated` first.
    """
    rows, width = gated.shape[0], gated.shape[1] // 2
    eight = torch.empty(rows, width, device=gated.device, dtype=torch.float8_e4m3fn)
    scale = torch.empty(rows, 1, device=gated.device, dtype=torch.float32)
    _gate[(rows,)](gated, eight, scale, width, LARGEST, power_of_two(width), num_warps=16)
    return eight, scale


def power_of_two(size: int) -> int:
    """The least one that is not below `size`."""
    return 1 << (size - 1).bit_length()


HERE = find_spec("triton") is not None and (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1")
"""Whether there are kernels; Triton's interpreter runs them on a CPU, for tests."""
if HERE:
    triton: Any = importlib.import_module("triton")
    tl: Any = importlib.import_module("triton.language")

    @triton.jit
    def _turn(joined, norm_q, norm_k, cosines, sines, queries, keys, stride, heads, eps: tl.constexpr, wide: tl.constexpr, size: tl.constexpr):  # fmt: skip  # noqa: E501, PLR0913, PLR0917
        """All heads of one token, of its queries or of its keys."""
        token, which = tl.program_id(0).to(tl.int64), tl.program_id(1)
        head, lane, half = tl.arange(0, wide), tl.arange(0, size), tl.arange(0, size // 2)
        inside = (head < heads)[:, None]
        place = head[:, None] * size + lane[None, :]
        width = heads * size
        rows = tl.load(joined + token * stride + which * width + place, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load((norm_q if which == 0 else norm_k) + lane).to(tl.float32)
        rows = rows * tl.rsqrt(tl.sum(rows * rows, 1) / size + eps)[:, None] * weight[None, :]
        first, second = tl.split(tl.reshape(rows, (wide, size // 2, 2)))
        cosine = tl.load(cosines + token * (size // 2) + half)[None, :]
        sine = tl.load(sines + token * (size // 2) + half)[None, :]
        pairs = tl.join(first * cosine - second * sine, first * sine + second * cosine)
        made = queries if which == 0 else keys
        tl.store(made + token * width + place, tl.reshape(pairs, (wide, size)).to(made.dtype.element_ty), mask=inside)

    @triton.jit
    def _gate(gated, eight, scales, width, largest: tl.constexpr, block: tl.constexpr):
        """One row."""
        row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, block)
        inside = lane < width
        opens = tl.load(gated + row * 2 * width + lane, mask=inside, other=0.0).to(tl.float32)
        passes = tl.load(gated + row * 2 * width + width + lane, mask=inside, other=0.0).to(tl.float32)
        fed = (opens * tl.sigmoid(opens) * passes).to(gated.dtype.element_ty).to(tl.float32)
        scale = tl.maximum(tl.max(tl.abs(fed), 0), 1e-12) / largest
        tl.store(scales + row, scale)
        tl.store(eight + row * width + lane, (fed / scale).to(eight.dtype.element_ty), mask=inside)
else:  # usable() says so
    _turn: Any = None
    _gate: Any = None
