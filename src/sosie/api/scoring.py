"""Scoring images of any origin against a character."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Character, Event, Progress, Recipe, Result, Scorecard, Verdict
from sosie.core.errors import BadImageError
from sosie.core.finding import Rule
from sosie.files.images import read_image
from sosie.loop.judging import make_judge
from sosie.workspace.session import Session

F001 = Rule("SOS-F001", "error", "A file to be scored is not an image")


@dataclass(frozen=True)
class Judged(Result):
    """An image and what was found of it."""

    image: Path
    scorecard: Scorecard
    verdict: Verdict


def score(session: Session, images: Sequence[Path], character: Character, recipe: Recipe) -> Generator[Event]:
    """Judges each image by the recipe's rules; a file that is no image gives SOS-F001 instead."""
    judge, findings = make_judge(session, character, recipe, None)
    yield from findings
    for place, path in enumerate(images, 1):
        try:
            image = read_image(path)
        except BadImageError as error:
            yield F001.at(str(path), error.message, error.hint)
        else:
            yield Judged(path, *judge(image))
        yield Progress(f"judged {path.name}", place, len(images))
