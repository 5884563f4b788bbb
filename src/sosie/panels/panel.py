"""A Panel: a question, images of several cells, and the pairs that people are shown. Fixed when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from sosie.core.errors import ConfigError
from sosie.core.schema import digest

Kind = Literal["test", "repeat", "identical"]
"""`repeat`: a pair that was shown before; `identical`: the same image on both sides, where nobody can tell."""

Question = Literal["likeness", "skin", "image"]

QUESTIONS: dict[Question, str] = {
    "likeness": "Which of the two is more like the person above?",
    "skin": "Whose skin looks more like skin in a photograph?",
    "image": "Which of the two is the better picture?",
}
"""What is asked, in English; the page says it in the reader's language."""

MOST_IMAGES, MOST_PAIRS = 10_000, 2_000
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class PanelImage:
    """An image of a cell, by the SHA-256 of its file. Images of one `block` (prompt and seed) differ in the cell alone.

    `guides` are the SHA-256 of the encoders that guided it: they do not judge it. `prompt` is the final one; empty
    where it is not known.
    """

    sha256: str
    cell: str
    block: str
    guides: tuple[str, ...] = ()
    prompt: str = ""


@dataclass(frozen=True)
class Pair:
    """Two images by their places in the panel; `of` is the place of the pair that a repeat repeats."""

    a: int
    b: int
    kind: Kind = "test"
    of: int | None = None


@dataclass(frozen=True)
class Attention:
    """Whose votes count, declared before anybody votes.

    More than `identical` of the identical pairs answered by a side, or less than `repeats` of the repeated ones
    answered as before: the person was guessing. Both are shares; one is looked at from `least` such pairs on.
    """

    identical: float = 0.5
    repeats: float = 0.5
    least: int = 4


@dataclass(frozen=True)
class Panel:
    """What is asked about whom, and by which pairs. Raises `ConfigError` for places and digests that cannot be."""

    name: str
    question: Question
    character: str
    recipe: str
    cells: tuple[str, ...]
    references: tuple[str, ...]
    images: tuple[PanelImage, ...]
    pairs: tuple[Pair, ...]
    seed: int = 0
    attention: Attention = field(default_factory=Attention)

    def __post_init__(self) -> None:
        sound = {
            f"at most {MOST_IMAGES} images": len(self.images) <= MOST_IMAGES,
            f"1 to {MOST_PAIRS} pairs": 0 < len(self.pairs) <= MOST_PAIRS,
            "digests as the names of images": all(map(DIGEST.fullmatch, self.files)),
            "images of its own cells": {image.cell for image in self.images} <= set(self.cells),
            "pairs of its own images": all(self._is_sound(pair) for pair in self.pairs),
        }
        if missing := [what for what, is_so in sound.items() if not is_so]:
            raise ConfigError(f"panel '{self.name}' is not whole: expected {', '.join(missing)}")

    @cached_property
    def id(self) -> str:
        """SHA-256 of all of it."""
        return digest(self)

    @property
    def files(self) -> tuple[str, ...]:
        """The digests of all its files, each once."""
        return tuple(dict.fromkeys((*self.references, *(image.sha256 for image in self.images))))

    def cell_of(self, image: int) -> str:
        """The cell of the image at a place."""
        return self.images[image].cell

    def _is_sound(self, pair: Pair) -> bool:
        places = range(len(self.images))
        if pair.a not in places or pair.b not in places:
            return False
        one, other = self.images[pair.a], self.images[pair.b]
        if pair.kind == "identical":
            return pair.a == pair.b
        if pair.kind == "repeat":
            first = self.pairs[pair.of] if pair.of is not None and pair.of in range(len(self.pairs)) else None
            return first is not None and (first.kind, first.a, first.b) == ("test", pair.a, pair.b)
        return one.cell != other.cell and one.block == other.block
