"""The working square of a face pass: cut out of an image, scaled to the model's size, and put back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.faces.align import Points
from sosie.faces.detect import Face, Image8

# Side of the square over the longer side of the face box: head and shoulders. 96 renders of 512 px that are framed so
# have 1.8 (1.4 to 2.3), and 42 % of the height that the box leaves free is above it (29 to 52 %).
MARGIN = 1.8
_FREE_ABOVE = 0.42
# A square that is this near to the wanted size is cut at exactly that size, so that no pixel is resampled.
_SAME_SIZE = 0.03


@dataclass(frozen=True, eq=False)
class Crop:
    """A square of an image, scaled.

    `image` is RGB uint8 [size, size, 3], read-only; it shows the square of `side` px whose first
    pixel is (`x`, `y`) of the image and that lies wholly inside it. Points name pixel centres, and
    the centre of the first pixel is 0.
    """

    image: Image8 = field(repr=False)
    x: int
    y: int
    side: int

    @property
    def size(self) -> int:
        """The side of `image`, in its pixels."""
        return len(self.image)

    @property
    def scale(self) -> float:
        """Pixels of the crop for one pixel of the image."""
        return self.size / self.side

    def to_crop(self, points: Points) -> NDArray[np.float64]:
        """Points [n, 2] of the image as points of the crop."""
        return (np.asarray(points, dtype=np.float64) - (self.x, self.y) + 0.5) * self.scale - 0.5

    def to_image(self, points: Points) -> NDArray[np.float64]:
        """Points [n, 2] of the crop as points of the image: the inverse of `to_crop`."""
        return (np.asarray(points, dtype=np.float64) + 0.5) / self.scale - 0.5 + (self.x, self.y)

    def face(self, face: Face) -> Face:
        """A face of the image, in pixels of the crop."""
        x, y, w, h = face.box
        box = ((x - self.x) * self.scale, (y - self.y) * self.scale, w * self.scale, h * self.scale)
        points = self.to_crop(face.points).astype(np.float32)
        points.setflags(write=False)
        return Face(box, points, face.confidence)

    def region(self, image: Image8) -> Image8:
        """The square of the `image` at its own scale, [side, side, 3]; a view."""
        return image[self.y : self.y + self.side, self.x : self.x + self.side]


def face_crop(image: Image8, face: Face, size: int, margin: float = MARGIN) -> Crop:
    """The square around `face` with head and shoulders, scaled to `size` px.

    Its side is `margin` times the longer side of the face box. The free height is shared out along
    the axis of the face, from eyes to mouth, so that a head on its side has its shoulders in the
    square too. At the border of the image the square is moved inwards; no pixel is invented. If it
    is larger than the image, it is as large as the image allows (and the framing tighter).
    ValueError for an image that is not uint8 [h, w, 3], a box without area, `margin` < 1 or `size` < 1.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected an image uint8 [h, w, 3], got {image.dtype} {image.shape}")
    x, y, w, h = face.box
    if min(w, h) <= 0 or margin < 1 or size < 1:
        raise ValueError(f"expected a face box with area, margin >= 1 and size >= 1, got {face.box}, {margin}, {size}")
    head = max(w, h)
    side = round(margin * head)
    if abs(side - size) <= _SAME_SIZE * size:
        side = size
    height, width = image.shape[:2]
    side = max(1, min(side, height, width))
    centre = np.array([x + w / 2, y + h / 2]) + _down(face) * ((0.5 - _FREE_ABOVE) * max(0.0, side - head))
    left, top = (
        int(np.clip(round(float(middle) - side / 2), 0, room - side))
        for middle, room in zip(centre, (width, height), strict=True)
    )
    pixels = resized(image[top : top + side, left : left + side], size)
    pixels.setflags(write=False)
    return Crop(pixels, left, top, side)


def resized(image: Image8, size: int) -> Image8:
    """A square RGB image uint8 scaled to [size, size, 3] with Lanczos; an exact copy if it has that size."""
    if image.shape[:2] == (size, size):
        return image.copy()
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def paste(image: Image8, crop: Crop, region: Image8) -> Image8:
    """A copy of `image` in which the square of `crop` is `region`, uint8 [side, side, 3] (ValueError if not)."""
    if region.shape != (crop.side, crop.side, 3) or region.dtype != np.uint8:
        raise ValueError(f"expected uint8 [{crop.side}, {crop.side}, 3], got {region.dtype} {list(region.shape)}")
    whole = image.copy()
    crop.region(whole)[...] = region
    return whole


def _down(face: Face) -> NDArray[np.float64]:
    """The unit vector from the eyes to the mouth; straight down if they coincide."""
    points = face.points.astype(np.float64)
    axis = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    length = float(np.linalg.norm(axis))
    return axis / length if length > 0 else np.array([0.0, 1.0])
