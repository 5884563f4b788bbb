"""The tables of a report: a line an arm, a line a contrast and a line an image, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from sosie.core.experiment_result import ExperimentResult, Measured

Row = Sequence[object]

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def cells_csv(result: ExperimentResult) -> str:
    """A line an arm."""
    axes = list(dict.fromkeys(axis for arm in result.arms for axis in arm.levels))
    others = list(dict.fromkeys(name for arm in result.arms for name in arm.others))
    head = ["arm", *axes, "engine", "blocks", "failed", "no_face", *_head("endpoint"), *_head("kept")]
    head += [name for other in others for name in _head(other)] + ["seconds", "dropped"]
    rows = [
        [
            *(arm.name, *(arm.levels.get(axis, "") for axis in axes), arm.engine, arm.blocks, arm.failed, arm.faceless),
            *(*_of(arm.endpoint), *_of(arm.kept)),
            *(value for other in others for value in _of(arm.others.get(other))),
            *(arm.seconds, arm.dropped),
        ]
        for arm in result.arms
    ]
    return _written(head, rows)


def contrasts_csv(result: ExperimentResult) -> str:
    """A line a comparison."""
    head = ["contrast", "verdict", "estimate", "low", "high", "level", "p", "blocks", "decided", "clipped", "note"]
    rows = [
        [
            one.name,
            one.verdict,
            one.estimate,
            one.low,
            one.high,
            one.level,
            one.p,
            one.n,
            one.decided,
            one.clipped,
            one.note,
        ]
        for one in result.contrasts
    ]
    return _written(head, rows)


def images_csv(result: ExperimentResult) -> str:
    """A line an image, drawn or not."""
    names = list(dict.fromkeys(name for cell in result.cells for name in cell.scores))
    head = ["arm", "prompt", "seed", "fresh", "plan", "image", "score", "counted", "kept", *names, "seconds", "error"]
    rows = [
        [
            *(cell.arm, result.prompts[cell.prompt], cell.seed, int(cell.fresh), cell.plan, cell.image, cell.score),
            *(cell.counted, None if cell.kept is None else int(cell.kept), *(cell.scores.get(name) for name in names)),
            *(cell.seconds, cell.error.message if cell.error else ""),
        ]
        for cell in result.cells
    ]
    return _written(head, rows)


def _head(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _of(measured: Measured | None) -> tuple[float | None, float | None, float | None]:
    return (measured.value, measured.low, measured.high) if measured else (None, None, None)


def _written(head: Row, rows: Iterable[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_safe(value) for value in row] for row in rows)
    return buffer.getvalue()


def _safe(value: object) -> object:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else "" if value is None else value
