"""Compare: two sides in pairs, by every score, and a page to look at them."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Event, Progress, Result
from sosie.core.schema import digest
from sosie.faces.detect import Detector
from sosie.lab.comparison import ComparedPair, Comparison, Row, compared, paired
from sosie.lab.measuring import measure_anybody, measure_images
from sosie.lab.sides import Side, read_side
from sosie.reports.comparison import (
    MOST,
    ComparisonPage,
    Line,
    ShownFace,
    ShownPair,
    face_of,
    shown_first,
    write_comparison,
)
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session


@dataclass(frozen=True)
class CompareOrder:
    """What is compared with what; `out` is the page's file, None: no page.

    Without a character that of the runs or cells is taken; without any, nothing is said of identity.
    """

    a: str
    b: str
    character: str = ""
    recipe: str = ""
    out: Path | None = None


@dataclass(frozen=True)
class Compared(Result):
    """A comparison, and its page, if there is one."""

    comparison: Comparison
    page: Path | None


def compare(session: Session, order: CompareOrder) -> Generator[Event]:
    """Measures every image of both sides alike, and writes the page. Ends with `Compared`. Raises `SosieError`."""
    sides = read_side(session.workspace, order.a), read_side(session.workspace, order.b)
    pairs, alone = paired(*sides)
    images = [image for place in (0, 1) for image in (pair[place] for pair in pairs)]
    files = [(image.path, image.prompt) for image in images]
    name = order.character or _character(sides)
    reference: Path | None = None
    if name:
        character = load_character(session.workspace, name)
        recipe = load_recipe(session.workspace, order.recipe or character.recipe or "mini")
        guides = frozenset(one for image in images for one in image.guides)
        measured = yield from measure_images(session, character, recipe, files, guides)
        reference = next(iter(session.reference_paths(character).values()), None)
    else:
        measured = yield from measure_anybody(session, files)
    comparison = compared(sides, pairs, alone, measured)
    path = None
    if order.out is not None:
        page = yield from _page(session, comparison, reference, name)
        path = write_comparison(page, order.out)
    yield Compared(comparison, path)


def in_words(row: Row) -> Line:
    """A row as a person reads it."""
    if not row.n:
        missing = row.why_not or f"{row.a_missing} of A and {row.b_missing} of B have no value"
        return Line(row.name, "-", "-", "-", "0", missing)
    interval = (
        "" if row.low is None or row.high is None else f" ({_number(row.low, True)} to {_number(row.high, True)})"
    )
    word = "better" if row.is_directed else "lower"
    counts = f"{row.n}: A {word} in {row.a_better}, B in {row.b_better}" + (f", {row.equal} equal" if row.equal else "")
    missing = [
        f"{count} of {side} without a value" for side, count in (("A", row.a_missing), ("B", row.b_missing)) if count
    ]
    verdict = ""
    if row.is_directed and row.low is not None and row.high is not None and (row.low > 0 or row.high < 0):
        verdict = "b" if (row.low > 0) == row.higher_is_better else "a"
    better = (
        "higher is better" if row.higher_is_better else "lower is better" if row.is_directed else "neither is better"
    )
    a, b, difference = (math.nan if value is None else value for value in (row.a, row.b, row.difference))
    return Line(
        row.name,
        _number(a),
        _number(b),
        f"{_number(difference, True)}{interval}",
        counts,
        "; ".join([better, *missing]),
        verdict,
    )


def notes(comparison: Comparison) -> tuple[str, ...]:
    """What must be known to read the figures."""
    said = [f"A: {comparison.a.name}, {comparison.a.note}.", f"B: {comparison.b.name}, {comparison.b.note}."]
    if len(comparison.pairs) < 2:
        said.append("One pair: no interval, and nothing is shown of other images.")
    else:
        shown = sum(row.n > 1 for row in comparison.rows)
        said.append(
            f"Differences are B less A within {len(comparison.pairs)} pairs; each interval is for one score by itself, "
            f"and of {shown} scores one in twenty excludes 0 by chance."
        )
    if comparison.alone:
        said.append(f"{len(comparison.alone)} images have no partner and are left out: {_some(comparison.alone)}.")
    return tuple(said)


def _page(
    session: Session, comparison: Comparison, reference: Path | None, character: str
) -> Generator[Event, None, ComparisonPage]:
    chosen = shown_first([_size(pair) for pair in comparison.pairs])
    known = face_of(reference, session.detector) if reference else ShownFace()
    pairs: list[ShownPair] = []
    for done, place in enumerate(chosen, 1):
        pairs.append(_shown(comparison.pairs[place], known, session.detector))
        yield Progress("looking at faces", done, len(chosen))
    said = notes(comparison)
    if len(comparison.pairs) > MOST:
        said += (f"{MOST} of {len(comparison.pairs)} pairs are shown, those that differ most first.",)
    names = (comparison.a.name, comparison.b.name)
    about = f" of {character}" if character else ""
    return ComparisonPage(
        f"{names[0]} against {names[1]}",
        f"{len(comparison.pairs)} pairs{about}. Faces are cut at one scale: the face is as large in each.",
        names,
        tuple(in_words(row) for row in comparison.rows),
        tuple(pairs),
        said,
        digest([names, [pair.block for pair in comparison.pairs], character]),
    )


def _shown(pair: ComparedPair, reference: ShownFace, detector: Detector) -> ShownPair:
    values = tuple((name, _value(a), _value(b)) for name, a, b in pair.values)
    faces = reference, face_of(pair.a.path, detector), face_of(pair.b.path, detector)
    return ShownPair(pair.block, pair.a.path, pair.b.path, values, faces)


def _size(pair: ComparedPair) -> float | None:
    """By how much a pair differs in the first score that both have."""
    return next((b - a for _, a, b in pair.values if a is not None and b is not None), None)


def _character(sides: tuple[Side, Side]) -> str:
    """Whom both sides show; empty if that is not known, or not one."""
    names = {side.character for side in sides if side.character}
    return names.pop() if len(names) == 1 else ""


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _value(value: float | None) -> str:
    return "-" if value is None else _number(value)


def _number(value: float, signed: bool = False) -> str:
    return f"{value:+.3f}" if signed else f"{value:.3f}"
