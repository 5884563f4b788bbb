"""The figures of a report, laid out in pixels; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sosie.core.experiment_result import ArmResult, Cell, Contrast, ExperimentResult

WIDTH, ROW, LABELS, RIGHT = 640, 30, 230, 24
SHADES = ("#f3f7fc", "#d6e4f4", "#adcbe9", "#7fabda", "#4d86c6", "#2563a8")
"""From the lowest to the highest; text on the last two is white."""


@dataclass(frozen=True)
class Whisker:
    """A contrast: where its estimate and the ends of its interval lie (pixels from the left; None: outside)."""

    name: str
    y: float
    middle: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Intervals:
    """Whiskers over one axis; `band` is the margin, `ticks` are (x, value)."""

    rows: tuple[Whisker, ...]
    zero: float
    band: tuple[float, float]
    ticks: tuple[tuple[float, float], ...]
    width: int
    height: int


@dataclass(frozen=True)
class HeatCell:
    """A combination of levels: its mean, the interval's ends, its colour and that of its text."""

    arm: str
    value: float | None
    colour: str
    is_dark: bool


@dataclass(frozen=True)
class Heat:
    """Means over two axes, `fixed` being the levels of the others."""

    rows: str
    columns: str
    fixed: str
    row_levels: tuple[str, ...]
    column_levels: tuple[str, ...]
    cells: tuple[tuple[HeatCell, ...], ...]


def intervals(contrasts: Sequence[Contrast], margin: float, clip: float) -> Intervals | None:
    """The contrasts that have an estimate; None if there is none. The axis ends at the widest, and within the clip."""
    known = [one for one in contrasts if one.estimate is not None]
    if not known:
        return None
    ends = [abs(value) for one in known for value in (one.low, one.high, one.estimate) if value is not None]
    reach = min(max([*ends, 1.5 * margin]), max(clip, margin * 1.5)) * 1.08

    def x(value: float) -> float:
        inside = max(-reach, min(reach, value))
        return round(LABELS + (inside + reach) / (2 * reach) * (WIDTH - LABELS - RIGHT), 1)

    rows = tuple(
        Whisker(
            one.name,
            ROW * index + ROW / 2,
            None if one.estimate is None else x(one.estimate),
            None if one.low is None else x(one.low),
            None if one.high is None else x(one.high),
            one.verdict,
        )
        for index, one in enumerate(known)
    )
    step = _step(reach)
    count = int(reach / step)
    ticks = tuple((x(step * k), step * k) for k in range(-count, count + 1))
    return Intervals(rows, x(0.0), (x(-margin), x(margin)), ticks, WIDTH, ROW * len(known) + 24)


def heats(arms: Sequence[ArmResult]) -> tuple[Heat, ...]:
    """A heat map of the first two axes for each level of the others; none where there are not two axes."""
    crossed = [arm for arm in arms if len(arm.levels) >= 2]
    if not crossed:
        return ()
    rows, columns, *rest = crossed[0].levels
    values = [arm.endpoint.value for arm in crossed if arm.endpoint]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    fixed = dict.fromkeys(tuple(arm.levels[axis] for axis in rest) for arm in crossed)
    return tuple(_heat(crossed, (rows, columns), dict(zip(rest, levels, strict=True)), (low, high)) for levels in fixed)


def _heat(
    arms: Sequence[ArmResult], axes: tuple[str, str], fixed: Mapping[str, str], bounds: tuple[float, float]
) -> Heat:
    rows, columns = axes
    own = [arm for arm in arms if all(arm.levels[axis] == level for axis, level in fixed.items())]
    row_levels = tuple(dict.fromkeys(arm.levels[rows] for arm in own))
    column_levels = tuple(dict.fromkeys(arm.levels[columns] for arm in own))
    by_levels = {(arm.levels[rows], arm.levels[columns]): arm for arm in own}
    cells = tuple(
        tuple(_shaded(by_levels.get((row, column)), bounds) for column in column_levels) for row in row_levels
    )
    text = ", ".join(f"{axis}={level}" for axis, level in fixed.items())
    return Heat(rows, columns, text, row_levels, column_levels, cells)


def _shaded(arm: ArmResult | None, bounds: tuple[float, float]) -> HeatCell:
    low, high = bounds
    if arm is None or arm.endpoint is None:
        return HeatCell(arm.name if arm else "", None, "none", False)
    share = (arm.endpoint.value - low) / (high - low) if high > low else 0.5
    index = min(len(SHADES) - 1, int(share * len(SHADES)))
    return HeatCell(arm.name, arm.endpoint.value, SHADES[index], index >= len(SHADES) - 2)


def running_means(result: ExperimentResult) -> dict[str, list[tuple[int, float]]]:
    """Of each contrast the mean difference after each block, in the order in which blocks were drawn."""
    order = list(dict.fromkeys((cell.prompt, cell.seed) for cell in result.cells if not cell.fresh))
    counted = {(cell.arm, cell.prompt, cell.seed): cell.counted for cell in result.cells}
    found: dict[str, list[tuple[int, float]]] = {}
    for one in result.contrasts:
        total = 0.0
        points: list[tuple[int, float]] = []
        for number, block in enumerate(order, start=1):
            own = [counted.get((arm, *block)) for arm in one.arms]
            other = [counted.get((arm, *block)) for arm in one.against]
            if None in own or None in other:
                break
            total += sum(filter(None, own)) / len(own) - sum(filter(None, other)) / len(other)
            points.append((number, total / number))
        if len(points) > 1:
            found[one.name] = points
    return found


def extremes(cells: Sequence[Cell], count: int) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The images with the highest and with the lowest scores; one without a score is the lowest of all."""
    drawn = [cell for cell in cells if cell.image and not cell.fresh]
    ordered = sorted(drawn, key=lambda cell: (cell.score is not None, cell.score or 0.0))
    some = min(count, len(ordered) // 2)
    return tuple(reversed(ordered[len(ordered) - some :])), tuple(ordered[:some])


def _step(reach: float) -> float:
    """A round distance between ticks: 1, 2 or 5 of a power of ten, at most four of them to a side."""
    power = 10.0 ** math.floor(math.log10(reach / 4))
    return next(step * power for step in (1, 2, 5, 10) if step * power * 4 >= reach)
