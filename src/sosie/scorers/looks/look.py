"""A look: one quality of an image, measured, and judged only where a recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sosie.scorers.looks.view import View
from sosie.scorers.scorer import Scale

KIND = "look"


@dataclass(frozen=True)
class Look:
    """What is measured, what is wrong with an image that fails, and how: a value, or why there is none.

    `version` is raised when the same image may get another value: then verdicts that asked for this look, and no
    others, are made again.
    """

    scale: Scale
    fails: str
    measure: Callable[[View], float | str]
    version: int = 1

    @property
    def name(self) -> str:
        """What the look is called."""
        return self.scale.name
