"""One image, prepared once for all scorers."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sosie.core.errors import BadImageError
from sosie.faces.picture import Picture

if TYPE_CHECKING:
    from sosie.faces.detect import Detector, Face
    from sosie.faces.encoders import Encoder

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""The weights of red, green and blue in luma, ITU-R BT.601 (what JPEG and OpenCV use)."""


def luma_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Luma of RGB pixels uint8 [h,w,3] by Rec. 601 (`LUMA`), float32 [h,w], 0 to 255."""
    return pixels.astype(np.float32) @ LUMA


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and the faces found in it.

    `pixels` is uint8 RGB [h,w,3]; `faces` are all faces of the detector, in any order; `prompt` is the (positive,
    final) one that it was drawn by, empty where there is none. `at` is where the character's face was drawn, x and y in
    shares of width and height, where that is known. `picture` is the image at all its sizes: what several scorers
    need is made once. `persons` is how many people the picture is to show. Two samples are equal only if they are the
    same object. Raises `BadImageError` for pixels of another kind.
    """

    pixels: npt.NDArray[np.uint8]
    faces: tuple[Face, ...] = ()
    prompt: str = ""
    at: tuple[float, float] | None = None
    shared: InitVar[Picture | None] = None
    persons: int = 1
    picture: Picture = field(init=False, repr=False)
    _embeddings: dict[str, npt.NDArray[np.float32]] = field(
        init=False, repr=False, default_factory=dict[str, npt.NDArray[np.float32]]
    )

    def __post_init__(self, shared: Picture | None) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            found = f"{self.pixels.dtype} {list(self.pixels.shape)}"
            raise BadImageError(f"an image of {found} cannot be scored; expected uint8 [h,w,3] RGB")
        if 0 in self.pixels.shape:
            raise BadImageError("an image without pixels cannot be scored")
        object.__setattr__(self, "picture", shared or Picture(self.pixels))

    @classmethod
    def seen(
        cls,
        pixels: npt.NDArray[np.uint8],
        detector: Detector,
        prompt: str = "",
        at: tuple[float, float] | None = None,
        persons: int = 1,
    ) -> Sample:
        """The image with the faces that `detector` finds, whose smaller sizes of it the scorers share."""
        picture = Picture(pixels)
        return cls(pixels, detector.detect(picture), prompt, at, picture, persons)

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
        return luma_of(self.pixels)

    @cached_property
    def main_face(self) -> Face | None:
        """The face that was drawn at `at`; the one of the largest box, where no place is known or none is there."""
        drawn = [face for face in self.faces if self.at is not None and self._holds(face, *self.at)]
        return max(drawn or self.faces, key=lambda face: face.box[2] * face.box[3], default=None)

    def embedding(self, encoder: Encoder) -> npt.NDArray[np.float32]:
        """The main face as `encoder` embeds it, [d]; computed once. ValueError if there is no face."""
        if self.main_face is None:
            raise ValueError("an image without a face has no embedding")
        if encoder.sha256 not in self._embeddings:
            self._embeddings[encoder.sha256] = encoder.embed(self.picture, self.main_face)
        return self._embeddings[encoder.sha256]

    def _holds(self, face: Face, x: float, y: float) -> bool:
        left, top, width, height = face.box
        return 0 <= x * self.width - left <= width and 0 <= y * self.height - top <= height
