"""Curves by step, laid out in pixels; a template draws them as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 190, 64, 22
"""A figure's size in pixels, and the room for its numbers."""

POINTS = 400
"""A curve of more points is shown by the means of so many parts."""

DOTTED = 60
"""Up to so many points are marked."""

COLOURS = ("#0b6bcb", "#b45309", "#1a7f37", "#8250df", "#b42318", "#6e6e73")

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Line:
    """One curve: its name and colour, and its points as (x, y) in pixels from the upper left."""

    name: str
    colour: str
    points: tuple[tuple[float, float], ...]

    @property
    def is_dotted(self) -> bool:
        """Whether its points are marked."""
        return len(self.points) <= DOTTED


@dataclass(frozen=True)
class Figure:
    """Curves over one axis: `values` are (y, label), `steps` (x, label, anchor), `best` the x of the best step."""

    title: str
    lines: tuple[Line, ...]
    values: tuple[tuple[float, str], ...]
    steps: tuple[tuple[float, str, str], ...]
    best: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = HEIGHT - BOTTOM


def lay_out(title: str, curves: Mapping[str, Points], best: int | None) -> Figure:
    """A figure of at most six curves, each with a point or more; `best` is a step, marked if it is among them."""
    steps = [step for points in curves.values() for step, _ in points]
    values = [value for points in curves.values() for _, value in points]
    low, high = min(values), max(values)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    first, last = min(steps), max(*steps, min(steps) + 1)

    def x(step: float) -> float:
        return round(LEFT + (step - first) / (last - first) * (WIDTH - LEFT - 8), 1)

    def y(value: float) -> float:
        return round(8 + (high - value) / (high - low) * (HEIGHT - BOTTOM - 8), 1)

    return Figure(
        title,
        tuple(
            Line(name, colour, tuple((x(step), y(value)) for step, value in points))
            for colour, (name, points) in zip(COLOURS, curves.items(), strict=False)
        ),
        tuple((y(value), f"{value:.3g}") for value in (low, (low + high) / 2, high)),
        ((x(first), str(first), "start"), (x(last), str(last), "end")),
        x(best) if best is not None and first <= best <= last else None,
    )


def thinned(points: Points) -> Points:
    """The means of neighbouring points, `POINTS` at most, each at the middle of its part."""
    size = max(1, -(-len(points) // POINTS))
    parts = [points[index : index + size] for index in range(0, len(points), size)]
    return [(part[len(part) // 2][0], sum(value for _, value in part) / len(part)) for part in parts]
