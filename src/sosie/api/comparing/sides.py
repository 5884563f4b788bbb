"""Compare: two sides in pairs, by every score, and a page to look at them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from sosie.api.comparing.sentences import how_many, in_words, notes
from sosie.core import Event, Progress, Result
from sosie.core.schema import digest
from sosie.faces.detect import Detector
from sosie.lab.comparison import ComparedPair, Comparison, compared, paired
from sosie.lab.measuring import measure_anybody, measure_images
from sosie.lab.sides import Side, read_side
from sosie.reports.comparison.page import (
    MOST,
    ROOM,
    ComparisonPage,
    ShownFace,
    ShownPair,
    face_of,
    shown_first,
    write_comparison,
)
from sosie.reports.words import Language, Words, words_of
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session


@dataclass(frozen=True)
class CompareOrder:
    """What is compared with what; `out` is the page's file, None: no page, and `language` its words.

    Without a character that of the runs or cells is taken; without any, nothing is said of identity.
    """

    a: str
    b: str
    character: str = ""
    recipe: str = ""
    out: Path | None = None
    language: Language = "en"


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
        page = yield from _page(session, comparison, (reference, name), order.language)
        path = write_comparison(page, order.out)
    yield Compared(comparison, path)


def _page(
    session: Session, comparison: Comparison, who: tuple[Path | None, str], language: Language
) -> Generator[Event, None, ComparisonPage]:
    reference, character = who
    words = words_of(ROOM, language)
    chosen = shown_first([_size(pair) for pair in comparison.pairs])
    known = face_of(reference, session.detector) if reference else ShownFace()
    pairs: list[ShownPair] = []
    for done, place in enumerate(chosen, 1):
        pairs.append(_shown(comparison.pairs[place], known, session.detector, words))
        yield Progress("looking at faces", done, len(chosen))
    said = notes(comparison, language)
    if len(comparison.pairs) > MOST:
        said += (words("shown", shown=MOST, all=len(comparison.pairs)),)
    names = (comparison.a.name, comparison.b.name)
    about = words("about", character=character) if character else ""
    return ComparisonPage(
        words("title", a=names[0], b=names[1]),
        words("lead", pairs=how_many(len(comparison.pairs), words), about=about),
        names,
        tuple(in_words(row, language) for row in comparison.rows),
        tuple(pairs),
        said,
        digest([names, [pair.block for pair in comparison.pairs], character]),
        language,
    )


def _shown(pair: ComparedPair, reference: ShownFace, detector: Detector, words: Words) -> ShownPair:
    values = tuple((name, words.number(a, 3), words.number(b, 3)) for name, a, b in pair.values)
    faces = reference, face_of(pair.a.path, detector), face_of(pair.b.path, detector)
    return ShownPair(pair.block, pair.a.path, pair.b.path, values, faces)


def _size(pair: ComparedPair) -> float | None:
    """By how much a pair differs in the first score that both have."""
    return next((b - a for _, a, b in pair.values if a is not None and b is not None), None)


def _character(sides: tuple[Side, Side]) -> str:
    """Whom both sides show; empty if that is not known, or not one."""
    names = {side.character for side in sides if side.character}
    return names.pop() if len(names) == 1 else ""
