"""How a picture looks while it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class Sight:
    """A small picture (RGB) of what is being drawn, and the seconds that it took to make it."""

    image: Image
    seconds: float


Look = Callable[[], Sight | None]
"""Makes a sight now, or says that there is none to be had."""


def unseen(_done: int, _steps: int, _look: Look) -> None:
    """For those who do not look."""
