"""Measuring images of any origin alike: every score by one gate, and none by an encoder that guided one of them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from sosie.core import Character, Event, Progress, Recipe, Score
from sosie.files.images import read_image
from sosie.loop.judge import Origin
from sosie.loop.judging import make_judge
from sosie.panels.agreement import Measured
from sosie.scorers.defects import score_defects
from sosie.scorers.plugged import plugged_scorers
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import measure
from sosie.workspace.session import Session

GUIDED = "it guided some of the images, so it cannot judge them"


def measure_images(
    session: Session, character: Character, recipe: Recipe, images: Sequence[tuple[Path, str]], guides: frozenset[str]
) -> Generator[Event, None, list[Measured]]:
    """All scores of the images (path and prompt, empty where it is not known), by name, in the order of the scorecard.

    `guides` are the SHA-256 of encoders that guided any of them. Raises `BadImageError`.
    """
    judge, findings = make_judge(session, character, recipe, None)
    yield from findings
    guiding = {one.encoder.name for one in judge.gate.judges if one.encoder.sha256 in guides}
    cards: list[dict[tuple[str, str], Score]] = []
    for place, (path, prompt) in enumerate(images, 1):
        card, _ = judge(read_image(path), Origin(prompt=prompt))
        cards.append({(score.kind, score.name): score for score in card.scores})
        yield Progress(f"judged {path.name}", place, len(images))
    return _by_name(cards, guiding)


def measure_anybody(session: Session, images: Sequence[tuple[Path, str]]) -> Generator[Event, None, list[Measured]]:
    """All scores of images that need no character: those of defects, and those of other packages."""
    plugged = plugged_scorers()
    cards: list[dict[tuple[str, str], Score]] = []
    for place, (path, prompt) in enumerate(images, 1):
        pixels: Any = np.asarray(read_image(path).convert("RGB"))
        sample = Sample(pixels, session.detector.detect(pixels), prompt)
        scores = [*score_defects(sample), *(score for scorer in plugged for score in measure(scorer, sample))]
        cards.append({(score.kind, score.name): score for score in scores})
        yield Progress(f"measured {path.name}", place, len(images))
    return _by_name(cards, set())


def _by_name(cards: Sequence[Mapping[tuple[str, str], Score]], guiding: Set[str]) -> list[Measured]:
    found: list[Measured] = []
    for kind, name in dict.fromkeys(key for card in cards for key in card):
        scores = [card.get((kind, name)) for card in cards]
        if kind == "identity" and name in guiding:
            found.append(Measured(name, kind, True, tuple(None for _ in scores), GUIDED))
            continue
        values = tuple(score.value if score else None for score in scores)
        why = next((score.reason for score in scores if score and score.reason), "")
        higher = next((score.higher_is_better for score in scores if score and score.unit), False)
        why = "" if any(value is not None for value in values) else why
        # What has no threshold and does not rise with quality is only reported: neither end of it is the better one.
        directed = kind == "identity" or higher or any(score and score.threshold is not None for score in scores)
        found.append(Measured(name, kind, higher, values, why, directed))
    return found
