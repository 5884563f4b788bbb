"""A Comparison: two sides in pairs, and what each score says of their difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sosie.core.errors import UsageError
from sosie.lab.sides import Side, SideImage
from sosie.panels.agreement import Measured
from sosie.statistics.student import paired_interval

ERROR = 0.05


@dataclass(frozen=True)
class Row:
    """A score of both sides. Means and difference (B less A) are of the `n` pairs in which both have a value.

    `low` and `high` are the 95 % interval of the mean difference (Student, pairs as units), None for fewer than two.
    `a_better`, `b_better` and `equal` count the pairs (where the score is not `is_directed`, "better" is lower, and
    means nothing); an image without a face loses to one with a face. `a_missing`
    and `b_missing` are images without a value; `why_not` says why nobody has one.
    """

    name: str
    kind: str
    higher_is_better: bool
    n: int
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    a_better: int
    b_better: int
    equal: int
    a_missing: int
    b_missing: int
    why_not: str = ""
    is_directed: bool = True


@dataclass(frozen=True)
class ComparedPair:
    """Two images of one block, and their values by score: of A and of B."""

    block: str
    a: SideImage
    b: SideImage
    values: tuple[tuple[str, float | None, float | None], ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Two sides in pairs. `alone` are blocks that one side alone has: nothing is said of them."""

    a: Side
    b: Side
    pairs: tuple[ComparedPair, ...]
    rows: tuple[Row, ...]
    alone: tuple[str, ...]


def paired(a: Side, b: Side) -> tuple[list[tuple[SideImage, SideImage]], tuple[str, ...]]:
    """The images of the same blocks, and the blocks of one side alone. Two single images are a pair.

    Raises `UsageError` where nothing can be paired.
    """
    if len(a.images) == len(b.images) == 1:
        return [(a.images[0], b.images[0])], ()
    first, second = ({image.block: image for image in side.images} for side in (a, b))
    shared = [block for block in first if block in second]
    if not shared:
        raise UsageError(
            f"{a.name} and {b.name} have no block in common; expected files of the same names, or the same prompts "
            f"and seeds ({next(iter(first))[:80]!r} and {next(iter(second))[:80]!r} are the first)"
        )
    return [(first[block], second[block]) for block in shared], tuple(sorted(first.keys() ^ second.keys()))


def compared(
    sides: tuple[Side, Side],
    pairs: Sequence[tuple[SideImage, SideImage]],
    alone: tuple[str, ...],
    measured: Sequence[Measured],
) -> Comparison:
    """The comparison of pairs whose images were measured: first all of A, then all of B."""
    n = len(pairs)
    rows = tuple(_row(one, n) for one in measured)
    shown = tuple(
        ComparedPair(a.block or b.block, a, b, tuple((m.name, m.values[at], m.values[n + at]) for m in measured))
        for at, (a, b) in enumerate(pairs)
    )
    return Comparison(*sides, shown, rows, alone)


def _row(measured: Measured, n: int) -> Row:
    values = np.array([np.nan if value is None else value for value in measured.values], np.float64)
    a, b = values[:n], values[n:]
    both = ~np.isnan(a) & ~np.isnan(b)
    count = int(both.sum())
    sign = 1.0 if measured.higher_is_better else -1.0
    better = sign * (b - a)[both]
    bound = paired_interval((b - a)[both], ERROR)
    # A face that is lost is worse than any that is there; a defect check that could not run says nothing.
    lost = measured.kind == "identity"
    return Row(
        measured.name,
        measured.kind,
        measured.higher_is_better,
        count,
        float(a[both].mean()) if count else None,
        float(b[both].mean()) if count else None,
        bound.mean if count else None,
        bound.low if count > 1 else None,
        bound.high if count > 1 else None,
        int((better < 0).sum() + lost * (~np.isnan(a) & np.isnan(b)).sum()),
        int((better > 0).sum() + lost * (np.isnan(a) & ~np.isnan(b)).sum()),
        int((better == 0).sum()),
        int(np.isnan(a).sum()),
        int(np.isnan(b).sum()),
        measured.why_not,
        measured.is_directed,
    )
