"""One image, prepared once for all scorers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sosie.core.errors import BadImageError

if TYPE_CHECKING:
    from sosie.faces.detect import Face

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""The weights of red, green and blue in luma, ITU-R BT.601 (what JPEG and OpenCV use)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and the faces found in it.

    `pixels` is uint8 RGB [h,w,3]; `faces` are all faces of the detector, in any order; `prompt` is the (positive,
    final) one that it was drawn by, empty where there is none. `at` is where the character's face was drawn, x and y in
    shares of width and height, where that is known. Two samples are equal only if they are the same
    object. Raises `BadImageError` for pixels of another kind.
    """

    pixels: npt.NDArray[np.uint8]
    faces: tuple[Face, ...] = ()
    prompt: str = ""
    at: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            found = f"{self.pixels.dtype} {list(self.pixels.shape)}"
            raise BadImageError(f"an image of {found} cannot be scored; expected uint8 [h,w,3] RGB")
        if 0 in self.pixels.shape:
            raise BadImageError("an image without pixels cannot be scored")

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pixels.shape[1]

    @cached_property
    def luma(self) -> npt.NDArray[np.float32]:
        """Luma by Rec. 601 (`LUMA`), float32 [h,w], 0 to 255."""
        return self.pixels.astype(np.float32) @ LUMA

    @cached_property
    def main_face(self) -> Face | None:
        """The face that was drawn at `at`; the one of the largest box, where no place is known or none is there."""
        drawn = [face for face in self.faces if self.at is not None and self._holds(face, *self.at)]
        return max(drawn or self.faces, key=lambda face: face.box[2] * face.box[3], default=None)

    def _holds(self, face: Face, x: float, y: float) -> bool:
        left, top, width, height = face.box
        return 0 <= x * self.width - left <= width and 0 <= y * self.height - top <= height
