"""Exact algebra of low-rank changes: rows of one, several as one, a factor taken in, and the change itself.

Fusing q, k, v stacks their changes: A = cat(A_q, A_k, A_v), B = block_diag(B_q, B_k, B_v). The rank
is the sum of the ranks, and alpha grows with it so that alpha / rank stays the same. The inverse
cuts B's rows, and takes the zeros away again where B is such a diagonal of blocks. Other fused weights (k and v;
q, k, v and a feed-forward layer) go alike, with parts of other heights. Both
only move numbers, and add or drop zeros; LoHa works alike in each of its factors. What cannot be
done so is refused with a `UsageError` that says why.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sosie.core.errors import UsageError
from sosie.lora.layouts import NAMES, Algorithm
from sosie.lora.tensors import CARRIERS, Tensor, as_float32, scaled

if TYPE_CHECKING:
    from sosie.lora.tensors import Array, Floats

KEEP_SPLIT = "keep q, k, v split: --to comfy"
KEEP_FUSED = "keep it fused: --to fused or --to kohya"


@dataclass(frozen=True)
class Change:
    """What is added to one weight: tensors by role without alpha; the product is times alpha / rank.

    `rank` 0 means full matrices: no factor. `rows` and `columns` are the weight's. `name` is for messages.
    """

    name: str
    algorithm: Algorithm
    tensors: Mapping[str, Tensor]
    rows: int
    columns: int
    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """Alpha / rank, or 1 for full matrices."""
        return self.alpha / self.rank if self.rank else 1.0


STACKED: Mapping[Algorithm, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lora": (("up",), ("down",)),
    "loha": (("w1_a", "w2_a"), ("w1_b", "w2_b")),
    "diff": (("diff",), ()),
}
"""Roles whose rows are the weight's rows, and roles that the thirds of a fused weight share."""


def part(change: Change, begin: int, rows: int) -> Change:
    """The change of `rows` rows of a fused weight, from row `begin` on. Alpha and rank stay as they are."""
    if begin + rows > change.rows:
        raise UsageError(f"{change.name} has {change.rows} rows, which end before its part at row {begin + rows}")
    own = slice(begin, begin + rows)
    if change.algorithm == "lokr":
        tensors = _part_of_lokr(change, own)
    else:
        cut, shared = _roles(change)
        tensors = {role: _rows(change.tensors[role], own) for role in cut}
        tensors |= {role: change.tensors[role] for role in shared}
    if "dora" in change.tensors:
        if not _by_row(change):
            raise UsageError(
                f"{change.name}: DoRA magnitudes by column ({change.columns}) belong to q, k and v together; "
                "split, each would need its own",
                KEEP_FUSED,
            )
        tensors["dora"] = _rows(change.tensors["dora"], own)
    return dataclasses.replace(change, tensors=tensors, rows=rows)


def parts_of(change: Change, rows: Sequence[int]) -> tuple[Change, ...]:
    """The changes of the parts of a fused weight, which have so many rows, in order."""
    if sum(rows) != change.rows:
        raise UsageError(f"{change.name} has {change.rows} rows, which are not its parts' {' + '.join(map(str, rows))}")
    return tuple(part(change, sum(rows[:place]), count) for place, count in enumerate(rows))


def unfuse(change: Change, rows: Sequence[int]) -> tuple[Change, ...]:
    """The changes of a fused weight's parts, which have so many rows, in order.

    Where a change is a diagonal of equal blocks, as `fuse` makes it, each gets its share of the rank and alpha:
    what falls away is zeros, and finite numbers that they were multiplied with.
    """
    parts = parts_of(change, rows)
    rank, over = divmod(change.rank, len(rows))
    alpha = change.alpha / len(rows)
    if not rank or over or change.algorithm == "lokr" or alpha / rank != change.scale:
        return parts
    cut, shared = _roles(change)
    if not all(_is_diagonal(change.tensors[role], rows, rank) for role in cut):
        return parts
    if not all(_is_finite(change.tensors[role]) for role in shared):
        return parts
    blocks: list[Change] = []
    for index, one in enumerate(parts):
        own = slice(index * rank, (index + 1) * rank)
        tensors = {role: _columns(one.tensors[role], own) for role in cut}
        tensors |= {role: _rows(one.tensors[role], own) for role in shared}
        blocks.append(dataclasses.replace(one, tensors={**one.tensors, **tensors}, rank=rank, alpha=alpha))
    return tuple(blocks)


def fuse(name: str, parts: Sequence[Change | None], rows: Sequence[int]) -> Change:
    """The change of a fused weight `name` from those of its parts, which have so many rows; a None is not changed.

    Scales that differ are brought to the first one's where that is a power of two.
    """
    present = [part for part in parts if part is not None]
    first = present[0]
    _check_alike(name, present)
    if odd := [(p.rows, count) for p, count in zip(parts, rows, strict=True) if p is not None and p.rows != count]:
        raise UsageError(f"{name}: q, k and v differ in their size: {odd[0][0]} and {odd[0][1]} rows", KEEP_SPLIT)
    if "dora" in first.tensors and (len(present) < len(parts) or not all(map(_by_row, present))):
        why = "all of q, k and v" if len(present) < len(parts) else "one magnitude a row, not a column"
        raise UsageError(f"{name}: a fused DoRA is not expressible, it needs {why}", KEEP_SPLIT)
    if first.algorithm == "lokr":
        raise UsageError(
            f"{name}: LoKr's Kronecker products do not stack: fused, full w2 has full rank, and a low-rank w2 "
            "becomes a LoRA that is equal to 1e-6 only",
            KEEP_SPLIT,
        )
    cut, shared = _roles(first)
    parts = [None if part is None else _to_scale(part, first.scale) for part in parts]
    tensors = {role: _concatenated([p.tensors[role] for p in parts if p is not None]) for role in shared}
    for role in cut:
        blocks = [None if part is None else part.tensors[role] for part in parts]
        tensors[role] = _diagonal(blocks, rows) if shared else _stacked(blocks, rows)
    if "dora" in first.tensors:
        tensors["dora"] = _concatenated([_column(p.tensors["dora"]) for p in parts if p is not None])
    rank = sum(part.rank for part in present)
    alpha = first.alpha * rank / first.rank if first.rank else 0.0
    if rank and alpha / rank != first.scale:
        raise UsageError(f"{name}: alpha {first.alpha!r} times {rank}/{first.rank} is no exact number", KEEP_SPLIT)
    return Change(name, first.algorithm, tensors, sum(rows), first.columns, rank, alpha)


def fold(change: Change, to: float = 1.0) -> Change:
    """The same change with alpha = rank times `to`: the rest of the factor is taken into the matrices.

    Exact for powers of two, in any float dtype; other factors would be rounded and are refused.
    """
    return _to_scale(change, to)


def magnitudes_by_row(change: Change) -> Change:
    """DoRA's magnitudes in kohya's shape: (rows, 1) from peft's (rows,); others stay."""
    if "dora" not in change.tensors:
        return change
    return dataclasses.replace(change, tensors={**change.tensors, "dora": _column(change.tensors["dora"])})


def delta(change: Change) -> Floats:
    """The change as (rows, columns) in float32, without DoRA's magnitudes.

    LoRA and LoHa are summed rank by rank in order, each step rounded to float32, so that added
    zeros and cut rows give the same bits.
    """
    import numpy as np

    t = {role: as_float32(tensor.load(), tensor.dtype) for role, tensor in change.tensors.items() if role != "dora"}
    if change.algorithm == "diff":
        return t["diff"].reshape(change.rows, -1)
    if change.algorithm == "lora" and "mid" in t:
        up, down = t["up"].reshape(change.rows, -1), t["down"].reshape(change.rank, -1)
        product = np.einsum("or,rs...,si->oi...", up, t["mid"], down).reshape(change.rows, -1)
    elif change.algorithm == "lora":
        product = _product(t["up"], t["down"])
    elif change.algorithm == "loha":
        if "t1" in t:
            raise UsageError(f"{change.name}: LoHa with Tucker cores is moved, not computed", "check another layer")
        product = _product(t["w1_a"], t["w1_b"]) * _product(t["w2_a"], t["w2_b"])
    elif change.algorithm == "lokr":
        product = _kronecker(change, t)
    else:
        raise UsageError(f"{change.name}: {NAMES[change.algorithm]} is moved, not computed", "check another layer")
    return product * np.float32(change.scale)


def _kronecker(change: Change, t: dict[str, Floats]) -> Floats:
    import numpy as np

    if "kt2" in t:
        raise UsageError(f"{change.name}: LoKr with a Tucker core is moved, not computed", "check another layer")
    one = t["k1"] if "k1" in t else _product(t["k1_a"], t["k1_b"])
    two = t["k2"] if "k2" in t else _product(t["k2_a"], t["k2_b"])
    return np.kron(one, two.reshape(two.shape[0], -1)).astype(np.float32, copy=False)


def _product(left: Floats, right: Floats) -> Floats:
    """The product, summed over the rank in order (see `delta`), 64 rows at a time."""
    import numpy as np

    left = left.reshape(left.shape[0], -1)
    right = right.reshape(left.shape[1], -1)
    total = np.zeros((left.shape[0], right.shape[1]), np.float32)
    for begin in range(0, len(left), 64):
        rows, into = left[begin : begin + 64], total[begin : begin + 64]
        term = np.empty_like(into)
        for index in range(right.shape[0]):
            np.multiply(rows[:, index, None], right[index], out=term)
            into += term
    return total


def _roles(change: Change) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The roles to cut and to share, if the change has no others."""
    cut, shared = STACKED.get(change.algorithm, ((), ()))
    if set(change.tensors) - {"dora"} != {*cut, *shared}:
        extra = sorted(set(change.tensors) - {"dora", *cut, *shared}) or ["its algorithm"]
        raise UsageError(f"{change.name}: '{extra[0]}' has no fused or split form", "keep its q, k, v as they are")
    return cut, shared


def _part_of_lokr(change: Change, own: slice) -> dict[str, Tensor]:
    """Rows of a Kronecker product are rows of w1 where w2's rows divide them."""
    role = "k1" if "k1" in change.tensors else "k1_a"
    inner = change.rows // change.tensors[role].shape[0]
    if own.start % inner or (own.stop - own.start) % inner:
        rows = change.tensors[role].shape[0]
        message = f"{change.name}: LoKr's w1 has {rows} rows, which its parts do not share; it has no split form"
        raise UsageError(message, KEEP_FUSED)
    return {**change.tensors, role: _rows(change.tensors[role], slice(own.start // inner, own.stop // inner))}


def _check_alike(name: str, parts: Sequence[Change]) -> None:
    """Refuses parts that differ in algorithm, size or dtype."""
    first = parts[0]
    for part in parts[1:]:
        for what, one, other in (
            ("algorithm", first.algorithm, part.algorithm),
            ("kind of tensors", sorted(first.tensors), sorted(part.tensors)),
            ("size", first.columns, part.columns),
            (
                "dtype",
                sorted({t.dtype for t in first.tensors.values()}),
                sorted({t.dtype for t in part.tensors.values()}),
            ),
        ):
            if one != other:
                raise UsageError(f"{name}: q, k and v differ in their {what}: {one} and {other}", KEEP_SPLIT)


def _by_row(change: Change) -> bool:
    """True if DoRA's magnitudes are one a row: (rows,) or (rows, 1, ...)."""
    shape = change.tensors["dora"].shape
    return shape[:1] == (change.rows,) and math.prod(shape) == change.rows


def _to_scale(change: Change, scale: float) -> Change:
    """The same change with alpha / rank = `scale`."""
    if not change.rank or change.scale == scale:
        return change
    factor = change.scale / scale if scale else math.nan
    if not math.isfinite(factor) or abs(math.frexp(factor)[0]) != 0.5 or change.algorithm == "lokr":
        raise UsageError(
            f"{change.name}: alpha / rank is {change.alpha:g} / {change.rank}; to keep it as {scale:g} the numbers "
            f"would be multiplied by {factor:g} and rounded",
            "--to comfy, which keeps alpha as a tensor",
        )
    role = STACKED[change.algorithm][0][0]
    old = change.tensors[role]
    new = Tensor(old.dtype, old.shape, lambda: scaled(old.load(), old.dtype, factor))
    return dataclasses.replace(change, tensors={**change.tensors, role: new}, alpha=scale * change.rank)


def _is_diagonal(tensor: Tensor, rows: Sequence[int], rank: int) -> bool:
    """True if the matrix is zero outside of blocks of so many rows and `rank` columns along its diagonal."""
    whole = tensor.load().reshape(tensor.shape[0], -1)
    if whole.shape != (sum(rows), len(rows) * rank):
        return False
    starts = [sum(rows[:place]) for place in range(len(rows) + 1)]
    blocks = [
        whole[starts[i] : starts[i + 1], j * rank : (j + 1) * rank]
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j
    ]
    return not any(block.any() for block in blocks)


def _is_finite(tensor: Tensor) -> bool:
    """True if it is known to hold neither infinity nor NaN."""
    import numpy as np

    if tensor.dtype not in ("BF16", "F16", "F32"):
        return False
    return bool(np.isfinite(as_float32(tensor.load(), tensor.dtype)).all())


def _columns(tensor: Tensor, own: slice) -> Tensor:
    shape = (tensor.shape[0], own.stop - own.start, *tensor.shape[2:])
    return Tensor(tensor.dtype, shape, lambda: tensor.load()[:, own])


def _rows(tensor: Tensor, own: slice) -> Tensor:
    return Tensor(tensor.dtype, (own.stop - own.start, *tensor.shape[1:]), lambda: tensor.load()[own])


def _column(tensor: Tensor) -> Tensor:
    if len(tensor.shape) != 1:
        return tensor
    return Tensor(tensor.dtype, (*tensor.shape, 1), lambda: tensor.load()[:, None])


def _concatenated(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors one below the other."""

    def load() -> Array:
        import numpy as np

        return np.concatenate([tensor.load() for tensor in tensors])

    rows = sum(tensor.shape[0] for tensor in tensors)
    return Tensor(tensors[0].dtype, (rows, *tensors[0].shape[1:]), load)


def _stacked(tensors: Sequence[Tensor | None], rows: Sequence[int]) -> Tensor:
    """Tensors of so many rows, one below the other; zeros where one is None."""
    like = next(tensor for tensor in tensors if tensor is not None)
    return _concatenated(
        [_zeros(like, count) if tensor is None else tensor for tensor, count in zip(tensors, rows, strict=True)]
    )


def _zeros(like: Tensor, rows: int) -> Tensor:
    shape = (rows, *like.shape[1:])

    def load() -> Array:
        import numpy as np

        return np.zeros(shape, CARRIERS[like.dtype])

    return Tensor(like.dtype, shape, load)


def _diagonal(blocks: Sequence[Tensor | None], rows: Sequence[int]) -> Tensor:
    """Matrices of so many rows along the diagonal, zeros elsewhere; a None is zeros alone."""
    present = [block for block in blocks if block is not None]
    shape = (sum(rows), sum(block.shape[1] for block in present))
    dtype = present[0].dtype

    def load() -> Array:
        import numpy as np

        whole = np.zeros(shape, CARRIERS[dtype])
        row = column = 0
        for block, count in zip(blocks, rows, strict=True):
            if block is not None:
                width = block.shape[1]
                whole[row : row + count, column : column + width] = block.load().reshape(count, width)
                column += width
            row += count
        return whole

    return Tensor(dtype, shape, load)
