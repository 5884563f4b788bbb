"""One image at several sizes, each made once and shared by everything that looks at it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a picture at one of its sizes: one pixel here is `scale` px of the picture, from `left`, `top` on."""

    pixels: Image8
    left: int
    top: int
    scale: int

    @property
    def to_picture(self) -> NDArray[np.float64]:
        """The matrix [2, 3] that takes places in the part to the picture; places name the middles of pixels."""
        middle = (self.scale - 1) / 2
        return np.array([[self.scale, 0, self.left + middle], [0, self.scale, self.top + middle]], np.float64)


class Picture:
    """RGB pixels uint8 [h, w, 3], and the same halved again and again.

    A halved picture has the mean of every two by two pixels; a last odd row or column is left out. Level 0 is the
    picture itself. Not to be shared between threads.
    """

    def __init__(self, pixels: Image8) -> None:
        """Takes the pixels as they are: nobody may change them afterwards."""
        self._levels = [pixels]

    @property
    def pixels(self) -> Image8:
        """The picture itself."""
        return self._levels[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pixels.shape[1]

    def halved(self, level: int) -> Image8:
        """The picture halved `level` times, or as often as both sides allow."""
        while len(self._levels) <= level and min(self._levels[-1].shape[:2]) >= 2:
            cv2: Any = importlib.import_module("cv2")
            last = self._levels[-1]
            rows, columns = last.shape[0] // 2, last.shape[1] // 2
            even = last[: 2 * rows, : 2 * columns]
            self._levels.append(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA))
        return self._levels[min(level, len(self._levels) - 1)]

    def part(self, left: int, top: int, right: int, bottom: int, side: int) -> Part:
        """What lies between these px (cut at the border), the smallest that has `side` px on its longer side."""
        left, top = max(0, left), max(0, top)
        right, bottom = min(self.width, right), min(self.height, bottom)
        level = _halvings(max(right - left, bottom - top), side)
        pixels, scale = self.halved(level), 2**level
        shown = pixels[top // scale : max(0, bottom) // scale, left // scale : max(0, right) // scale]
        return Part(shown, left // scale * scale, top // scale * scale, scale)

    def whole(self, side: int) -> Part:
        """All of it, at the smallest size at which its longer side has `side` px."""
        return self.part(0, 0, self.width, self.height, side)


def _halvings(own: int, side: int) -> int:
    """How often a side of `own` px can be halved and still have `side` px."""
    return max(0, (max(own, 1) // max(1, side)).bit_length() - 1)


def picture_of(image: Image8 | Picture) -> Picture:
    """The picture; one of its own for bare pixels."""
    return image if isinstance(image, Picture) else Picture(image)
