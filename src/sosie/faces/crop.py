"""The working square of a face pass: cut out of an image, scaled to the model's size, and put back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.faces.align import Points
from sosie.faces.detect import Face, Image8
from sosie.faces.mask import Mask, upright_box

# Side of the square over the longer side of the face box: head and shoulders. 96 renders of 512 px that are framed so
# have 1.8 (1.4 to 2.3), and 42 % of the height that the box leaves free is above it (29 to 52 %).
MARGIN = 1.8
_FREE_ABOVE = 0.42
# A face that fills more of the picture than this allows is drawn in a square that repeats the border: the same renders
# have 1.4 at least.
TIGHTEST = 1.4
# A square that is this near to the wanted size is cut at exactly that size, so that no pixel is resampled.
_SAME_SIZE = 0.03
# Up to this tilt, in degrees, a face is drawn as it stands: models have seen tilted heads. Beyond it the square turns
# with the face. A turned square is sampled, so it is not worth it for less.
UPRIGHT = 20.0


@dataclass(frozen=True, eq=False)
class Crop:
    """A square of an image, scaled.

    `image` is RGB uint8 [size, size, 3], read-only; it shows the square of `side` px whose first
    pixel is (`x`, `y`) of the image. It lies wholly inside it, unless it is larger than the image or
    turned: what it shows beyond the border repeats the border, and is never put back. `roll` is by how many
    degrees it is turned about its middle, clockwise. Points name pixel centres, and the centre of the first pixel is 0.
    """

    image: Image8 = field(repr=False)
    x: int
    y: int
    side: int
    roll: float = 0.0

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
        points = np.asarray(points, dtype=np.float64)
        if self.roll:
            points = (points - self._middle) @ _turn(-self.roll).T + self._middle
        return (points - (self.x, self.y) + 0.5) * self.scale - 0.5

    def to_image(self, points: Points) -> NDArray[np.float64]:
        """Points [n, 2] of the crop as points of the image: the inverse of `to_crop`."""
        points = (np.asarray(points, dtype=np.float64) + 0.5) / self.scale - 0.5 + (self.x, self.y)
        return (points - self._middle) @ _turn(self.roll).T + self._middle if self.roll else points

    def face(self, face: Face) -> Face:
        """A face of the image, in pixels of the crop."""
        points = self.to_crop(face.points).astype(np.float32)
        points.setflags(write=False)
        x, y, w, h = face.box
        if not self.roll:
            box = ((x - self.x) * self.scale, (y - self.y) * self.scale, w * self.scale, h * self.scale)
            return replace(face, box=box, points=points)
        half = np.array(upright_box(w, h, math.radians(face.roll))) * self.scale
        middle = self.to_crop(np.array([[x + w / 2, y + h / 2]]))[0]
        return replace(face, box=(*(middle - half), *(2 * half)), points=points)

    def region(self, image: Image8) -> Image8:
        """The square of the `image` at its own scale, [side, side, 3]; a view, where it lies inside the image."""
        height, width = image.shape[:2]
        if self.x >= 0 and self.y >= 0 and self.x + self.side <= width and self.y + self.side <= height:
            return image[self.y : self.y + self.side, self.x : self.x + self.side]
        rows = np.clip(np.arange(self.y, self.y + self.side), 0, height - 1)
        columns = np.clip(np.arange(self.x, self.x + self.side), 0, width - 1)
        return image[rows[:, np.newaxis], columns]

    @property
    def _middle(self) -> NDArray[np.float64]:
        return np.array([self.x, self.y]) + (self.side - 1) / 2


def face_crop(image: Image8, face: Face, size: int, margin: float = MARGIN) -> Crop:
    """The square around `face` with head and shoulders, scaled to `size` px.

    Its side is `margin` times the longer side of the face box. The free height is shared out along
    the axis of the face, from eyes to mouth, so that a head on its side has its shoulders in the
    square too; a face that is tilted by more than `UPRIGHT` degrees stands upright in a square that is turned. At the
    border of the image the square is moved inwards. If it is larger than the image, it is as large as the image
    allows; in a picture of little more than a face it repeats the border (`TIGHTEST`): models know no such framing.
    ValueError for an image that is not uint8 [h, w, 3], a box without area, `margin` < 1 or `size` < 1.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected an image uint8 [h, w, 3], got {image.dtype} {image.shape}")
    x, y, w, h = face.box
    if min(w, h) <= 0 or margin < 1 or size < 1:
        raise ValueError(f"expected a face box with area, margin >= 1 and size >= 1, got {face.box}, {margin}, {size}")
    roll = face.roll if abs(face.roll) > UPRIGHT else 0.0
    head = 2 * max(upright_box(w, h, math.radians(roll))) if roll else max(w, h)
    side = round(margin * head)
    if abs(side - size) <= _SAME_SIZE * size:
        side = size
    height, width = image.shape[:2]
    if not roll:
        side = max(1, min(side, max(min(height, width), round(min(margin, TIGHTEST) * head))))
    centre = np.array([x + w / 2, y + h / 2]) + _down(face) * ((0.5 - _FREE_ABOVE) * max(0.0, side - head))
    left, top = (
        _start(round(float(middle) - side / 2), room - side, inwards=not roll)
        for middle, room in zip(centre, (width, height), strict=True)
    )
    crop = Crop(image[:0], left, top, side, roll)
    pixels = sampled(image, crop, size) if roll else resized(crop.region(image), size)
    pixels.setflags(write=False)
    return replace(crop, image=pixels)


def _start(start: int, room: int, *, inwards: bool) -> int:
    """Where a side of the square starts: inside the image if there is `room`, else so that all of the image is in."""
    return min(max(start, min(0, room)), max(0, room)) if inwards else start


def resized(image: Image8, size: int) -> Image8:
    """A square RGB image uint8 scaled to [size, size, 3] with Lanczos; an exact copy if it has that size."""
    if image.shape[:2] == (size, size):
        return image.copy()
    return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


@dataclass(frozen=True, eq=False)
class Patch:
    """What of an image a crop covers: a rectangle, and what comes back from the crop onto it."""

    crop: Crop
    rows: slice
    columns: slice

    def pixels(self, drawn: Image8) -> Image8:
        """The crop's new pixels, RGB uint8 [size, size, 3], at the scale of the image: uint8 [h, w, 3]."""
        if self.crop.roll:
            return np.array(self._warped(Image.fromarray(drawn), Image.Resampling.BICUBIC))
        return self._cut(resized(drawn, self.crop.side))

    def mask(self, mask: Mask) -> Mask:
        """A mask of the crop, float32 [size, size], at the scale of the image: float32 [h, w], 0 beyond the crop."""
        return np.clip(self.spread(mask), 0, 1)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of the crop, float32 [size, size], at the scale of the image, [h, w]; 0 beyond the crop."""
        if self.crop.roll:
            return np.array(self._warped(Image.fromarray(values), Image.Resampling.BILINEAR), dtype=np.float32)
        if self.crop.side == self.crop.size:
            return self._cut(values)
        side = (self.crop.side, self.crop.side)
        scaled = Image.fromarray(values).resize(side, Image.Resampling.BILINEAR)
        return self._cut(np.array(scaled, dtype=np.float32))

    def face(self, face: Face) -> Face:
        """A face of the crop, in pixels of the patch."""
        start = np.array([self.columns.start, self.rows.start])
        x, y, w, h = face.box
        middle = self.crop.to_image(np.array([[x + w / 2, y + h / 2]]))[0] - start
        half = np.array([w, h]) / 2 / self.crop.scale
        if self.crop.roll:
            # The box around the tilted ellipse that the upright one becomes.
            half = np.sqrt(_turn(self.crop.roll) ** 2 @ half**2)
        points = (self.crop.to_image(face.points) - start).astype(np.float32)
        return replace(face, box=(*(float(v) for v in middle - half), *(float(v) for v in 2 * half)), points=points)

    def _cut(self, square: NDArray[Any]) -> NDArray[Any]:
        rows = slice(self.rows.start - self.crop.y, self.rows.stop - self.crop.y)
        return square[rows, self.columns.start - self.crop.x : self.columns.stop - self.crop.x]

    def _warped(self, picture: Image.Image, how: Image.Resampling) -> Image.Image:
        start = np.array([self.columns.start, self.rows.start])
        size = (self.columns.stop - self.columns.start, self.rows.stop - self.rows.start)
        return picture.transform(
            size, Image.Transform.AFFINE, _coefficients(lambda points: self.crop.to_crop(points + start)), how
        )


def moved(face: Face, left: int, top: int) -> Face:
    """The `face` in a picture that begins at (`left`, `top`) of its own."""
    x, y, w, h = face.box
    return replace(face, box=(x - left, y - top, w, h), points=face.points - np.array([left, top], np.float32))


def patch_of(crop: Crop, shape: tuple[int, ...]) -> Patch:
    """The rectangle of an image [h, w, ...] that holds all of the crop that lies inside the image."""
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * crop.size - 0.5
    outer = crop.to_image(corners) + 0.5
    low, high = np.floor(outer.min(axis=0) + 1e-6), np.ceil(outer.max(axis=0) - 1e-6)
    left, top = (int(max(0, value)) for value in low)
    right, bottom = int(min(shape[1], high[0])), int(min(shape[0], high[1]))
    return Patch(crop, slice(top, bottom), slice(left, right))


def sampled(image: Image8, crop: Crop, size: int) -> Image8:
    """The turned square of `crop` out of `image` as RGB uint8 [size, size, 3]; the border is repeated beyond it.

    A square that shrinks to less than half is averaged over whole blocks of pixels first.
    """
    reach = round(0.21 * crop.side) + 2
    rows = np.clip(np.arange(crop.y - reach, crop.y + crop.side + reach), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(crop.x - reach, crop.x + crop.side + reach), 0, image.shape[1] - 1)
    around = Image.fromarray(image[rows[:, np.newaxis], columns])
    shrink = max(1, crop.side // size)
    if shrink > 1:
        around = around.reduce(shrink)
    placed = replace(crop, image=np.empty((size, size, 3), np.uint8))

    def to_around(points: Points) -> NDArray[np.float64]:
        return (placed.to_image(points) - (crop.x - reach, crop.y - reach) + 0.5) / shrink - 0.5

    return np.array(
        around.transform((size, size), Image.Transform.AFFINE, _coefficients(to_around), Image.Resampling.BICUBIC)
    )


def _coefficients(place: Callable[[Points], NDArray[np.float64]]) -> tuple[float, ...]:
    """What Pillow asks of an affine map from pixels of the result to pixels of the picture; it names corners."""
    (x, y), right, down = place(np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]])) + 0.5
    return (right[0] - x, down[0] - x, x, right[1] - y, down[1] - y, y)


def _turn(degrees: float) -> NDArray[np.float64]:
    """The matrix that turns points clockwise, as pictures count."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _down(face: Face) -> NDArray[np.float64]:
    """The unit vector from the eyes to the mouth; straight down if they coincide."""
    points = face.points.astype(np.float64)
    axis = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    length = float(np.linalg.norm(axis))
    return axis / length if length > 0 else np.array([0.0, 1.0])
