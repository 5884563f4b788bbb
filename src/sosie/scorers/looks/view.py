"""What looks are measured in: an image made small once, and its face at one distance between the eyes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sosie.faces.detect import Image8
from sosie.faces.texture import LEAST_EYES, SCALES, FaceChip, face_chip, luma_of
from sosie.scorers.looks.flat import flat_sigma
from sosie.scorers.sample import Sample

if TYPE_CHECKING:
    from sosie.faces.detect import Face

Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]

LONG_SIDE = 1024
"""Highlights and sharpness are measured with at most so many pixels on the long side."""
COLOUR_SIDE = 256
"""Colours are measured with at most so many."""
MAX_YAW = 45.0
"""A face that is turned further has one cheek and half a mouth, in degrees."""
_TILE = 32
_CROP, _CROPS = 192, 3
"""Grain is measured in a grid of `_CROPS` by `_CROPS` crops of this side at the image's own size."""


@dataclass(frozen=True, eq=False)
class View:
    """A sample as looks see it; each part is made when it is first asked for."""

    sample: Sample = field(repr=False)

    @cached_property
    def small(self) -> Image8:
        """The image with at most `LONG_SIDE` px on its long side, RGB uint8 [h, w, 3]."""
        cv2: Any = importlib.import_module("cv2")
        if self.scale == 1:
            return self.sample.pixels
        size = tuple(max(1, round(side * self.scale)) for side in (self.sample.width, self.sample.height))
        return cv2.resize(self.sample.picture.whole(LONG_SIDE).pixels, size, interpolation=cv2.INTER_AREA)

    @cached_property
    def scale(self) -> float:
        """Pixels of `small` for one of the image, at most 1."""
        return min(1.0, LONG_SIDE / max(self.sample.width, self.sample.height))

    @cached_property
    def lab(self) -> Floats:
        """The image with at most `COLOUR_SIDE` px on its long side in CIELAB, float32 [h, w, 3]."""
        cv2: Any = importlib.import_module("cv2")
        scale = min(1.0, COLOUR_SIDE / max(self.small.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in self.small.shape[:2])
        tiny = cv2.resize(self.small, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.cvtColor(tiny.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)

    @cached_property
    def luma(self) -> Grey:
        """Luma of `small` by Rec. 601, uint8 [h, w]."""
        cv2: Any = importlib.import_module("cv2")
        return cv2.cvtColor(self.small, cv2.COLOR_RGB2GRAY)

    @cached_property
    def crops(self) -> tuple[Floats, ...]:
        """Luma of parts of the image at its own size, spread over it; all of it where it is small."""
        rows, columns = (_spread(side) for side in (self.sample.height, self.sample.width))
        return tuple(
            luma_of(self.sample.pixels[top : top + _CROP, left : left + _CROP]) for top in rows for left in columns
        )

    @cached_property
    def grain(self) -> float | str:
        """Sigma of the noise where the image is flat, in levels, or why it is not known."""
        found = flat_sigma(self.crops)
        return f"nothing flat of {_TILE} px is seen that is not black or white" if found is None else found

    @cached_property
    def face(self) -> Face | str:
        """The character's face, or why it cannot be looked at."""
        face = self.sample.main_face
        if face is None:
            return "no face was found"
        if abs(face.yaw) > MAX_YAW:
            return f"the face is turned by {abs(face.yaw):.0f} degrees; at most {MAX_YAW:.0f} are looked at"
        x, y = (float(side) for side in face.points[:2].mean(axis=0))
        if not (0 <= x < self.sample.width and 0 <= y < self.sample.height):
            return "the eyes are outside the picture"
        return face

    @cached_property
    def large(self) -> FaceChip | str:
        """The face at the scale of `skin_texture`, or why not."""
        return self._chip(SCALES["skin_texture"])

    @cached_property
    def little(self) -> FaceChip | str:
        """The face at the scale of `skin_relief`, or why not."""
        return self._chip(SCALES["skin_relief"])

    def _chip(self, eyes: int) -> FaceChip | str:
        if isinstance(self.face, str):
            return self.face
        least = LEAST_EYES * eyes
        if self.face.interocular < least:
            return f"{self.face.interocular:.0f} px between the eyes; at least {least:.0f} are needed"
        return face_chip(self.sample.pixels, self.face.points, eyes)


def _spread(side: int) -> list[int]:
    """Where the crops begin along a side."""
    if side <= _CROP * _CROPS:
        return list(range(0, max(1, side - _TILE + 1), _CROP))
    return [round(at * (side - _CROP) / (_CROPS - 1)) for at in range(_CROPS)]
