"""What is asked of a run that goes on, by whoever watches it: a file in its folder for each wish.

The run takes wishes between two updates. None of them changes what it learns: a run that drew samples when asked goes
on to the same losses, bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sosie.files.whole import make_file

Wish = Literal["sample", "deliver"]
"""Draw samples now; or end here, and deliver the best checkpoint so far."""

WISHES: tuple[Wish, ...] = ("sample", "deliver")
"""In the order in which they are granted."""


def wish_for(folder: Path, wish: Wish) -> None:
    """Leaves a wish for the run in `folder`; to wish twice is to wish once."""
    make_file(_file(folder, wish))


def taken(folder: Path) -> tuple[Wish, ...]:
    """The wishes that were left, which are no more from now on."""
    found: tuple[Wish, ...] = tuple(wish for wish in WISHES if _file(folder, wish).exists())
    for wish in found:
        _file(folder, wish).unlink(missing_ok=True)
    return found


def _file(folder: Path, wish: Wish) -> Path:
    return folder / f"{wish}.wish"
