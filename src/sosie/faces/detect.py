"""Face detection with five points by YuNet (Wu et al. 2023, OpenCV Zoo), without torch."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.faces.align import ARCFACE_TEMPLATE, CROP, umeyama, warp
from sosie.faces.nets.yunet import YuNet
from sosie.faces.picture import Part, Picture, picture_of

Image8 = NDArray[np.uint8]

# Nose protrusion in units of the distance between eye line and mouth line; least mean error over 96 renders
# of eight people at yaw -32 to 32 degrees (2.9 degrees, correlation 0.98).
NOSE_PROTRUSION = 0.53

# Which of the five points is each one in a mirrored picture.
MIRRORED = np.array([1, 0, 2, 4, 3])


@dataclass(frozen=True, eq=False)
class Face:
    """One face in an image.

    `box` is x, y, width, height in pixels of that image and may reach beyond its border; `points`
    is float32 [5, 2], read-only: left eye (of the picture), right eye, nose, left mouth corner,
    right mouth corner; `confidence` is 0 to 1. `likeness` is its cosine to the face that was looked for, by the
    encoder that guides, where there is one.
    """

    box: tuple[float, float, float, float]
    points: NDArray[np.float32] = field(repr=False)
    confidence: float
    likeness: float | None = None

    @property
    def interocular(self) -> float:
        """The distance between the eyes, in pixels."""
        return float(np.linalg.norm(self.points[1] - self.points[0]))

    @property
    def yaw(self) -> float:
        """The turn of the head in degrees, -90 to 90; negative = turned to the left of the picture.

        An approximation: a nose that stands out by p = 0.53 of the distance between eyes and mouth
        moves by p * sin(yaw) along the eye line when the head turns. Tilt (roll) does not enter,
        nod (pitch) a little. On renders turned by up to 32 degrees the mean error is 3 degrees in
        512 x 512 px and 4 in 256 x 256.
        """
        left, right, nose = (self.points[i].astype(np.float64) for i in range(3))
        middle = (left + right) / 2
        mouth = (self.points[3].astype(np.float64) + self.points[4]) / 2
        scale = self.interocular * float(np.linalg.norm(mouth - middle)) * NOSE_PROTRUSION
        offset = float((nose - middle) @ (right - left))
        if scale == 0:
            return math.copysign(90.0, offset)
        return math.degrees(math.asin(max(-1.0, min(1.0, offset / scale))))

    @property
    def roll(self) -> float:
        """The tilt of the eye line in degrees, -180 to 180: 90 for a head that lies with its top to the right."""
        across = self.points[1].astype(np.float64) - self.points[0]
        return math.degrees(math.atan2(across[1], across[0]))

    def moved(self, x: float, y: float) -> Face:
        """The same face in an image that has `x` columns and `y` rows more before this one."""
        return self.under(np.array([[1, 0, x], [0, 1, y]], dtype=np.float64))

    def under(self, matrix: NDArray[np.float64]) -> Face:
        """The same face in an image that the similarity `matrix` [2, 3] leads to; its box stays upright."""
        x, y, w, h = self.box
        points = (self.points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        points.setflags(write=False)
        middle = matrix[:, :2] @ (x + w / 2, y + h / 2) + matrix[:, 2]
        wide, high = np.abs(matrix[:, :2]) @ (w, h)
        box = (float(middle[0] - wide / 2), float(middle[1] - high / 2), float(wide), float(high))
        return Face(box, points, self.confidence)


class Detector:
    """Holds the YuNet net; not to be shared between threads.

    The net finds faces of 12 px between the eyes and more, and is sure of those that stand upright: of 196 portraits
    the least confidence is 0.909, and each turned by a quarter has less than upright, by 0.012 at least. So:

    - An image is looked at with 640 px on its long side, never enlarged. While the largest face has less than `SURE`
      px there, a look at twice the size follows, in tiles, up to half of the image's own size, or to all of it where
      there is none. An image that shows none is looked at with 320 px: a face may fill it.
    - A small face, and one that was found in a shrunken image, is looked at again closely.
    - A face that seems not to stand upright is looked at from four sides, and the surest look counts. Where no face is
      found at all, the image is looked at from four sides.
    - One look moves the points by 1 to 2 % of the face, and with them SFace's value by 0.03. So they are the mean of
      looks at the face as it stands in the encoders' crop, taken three times, each where the last one put it: then
      they hardly depend on the rest of the picture.

    Takes about 40 ms for a face in 512 x 512 px on one core; docs/benchmarks.md compares.
    """

    LONG_SIDE = 640
    CONFIDENCE = 0.6
    OVERLAP = 0.3
    # Below this OpenCV 4.12 reports boxes of 1e10 px in empty images.
    SHORT_SIDE = 64
    # Where the largest face has this width, one of a third of it has 12 px between the eyes.
    SURE = 80.0
    # The side of a close look, px; it shows the face with as much again around it.
    CLOSE_SIDE = 448
    # A look for the points: the px of its side, by how much it enlarges the encoders' crop, and where it is set: px to
    # the right and down, and a scale. Fewer of them, or fewer times, and values differ by 0.02 and more.
    CROP_SIDE = 224
    CROP_SCALE = 1.6
    CROPS = ((0, 0, 1.0), (5, 3, 0.9), (-3, 5, 1.1), (4, -5, 1.0), (-6, -3, 0.95), (2, 6, 1.05))
    # How many of these each mean is of; half of the last are mirrored.
    MEANS = (3, 3, 6)
    TILE = 1024
    # Faces at the border of a tile; larger ones were seen in the smaller image.
    MARGIN = 128
    # What finer looks show must be surer: there are many more places to be wrong about.
    SURE_CONFIDENCE = 0.75
    # What is seen from other sides alone, once it is looked at upright: real faces have 0.9, painted-out ones less.
    TURNED_CONFIDENCE = 0.9
    # Below this, or tilted by more, a face may not stand upright.
    UPRIGHT_CONFIDENCE = 0.92
    UPRIGHT_ROLL = 15.0
    # A look is level if the eyes are within so many degrees in it.
    LEVEL = 8.0
    # By how much a turned look must be surer.
    LEAD = 0.005
    # Faces of one image that are looked at more closely, largest first.
    CLOSELY = 8

    def __init__(self) -> None:
        """Reads the pinned weights; BadModelError or MissingExtraError as `PackagedWeights` says."""
        self._cv2: Any = importlib.import_module("cv2")
        self._net = YuNet(self.CONFIDENCE, self.OVERLAP)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the weights itself."""
        return Detector, ()

    def detect(self, image: Image8 | Picture) -> tuple[Face, ...]:
        """The faces in `image` (RGB uint8 [h, w, 3]), largest box first; empty if there is none.

        A `Picture` that others look at too is halved once for all.
        """
        picture = picture_of(image)
        pixels = picture.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise ValueError(f"expected an image uint8 [h, w, 3], got {pixels.dtype} {pixels.shape}")
        found = _by_size(self._at_all_sizes(picture))
        near, far = found[: self.CLOSELY], found[self.CLOSELY :]
        shrunk = max(pixels.shape[:2]) > self.LONG_SIDE
        near = [self._close(picture, face) if shrunk or max(face.box[2:]) < self.SURE else face for face in near]
        upright = _distinct([self._upright(picture, face) for face in near], self.OVERLAP)
        upright = upright or ([] if far else self._from_other_sides(picture))
        return tuple(_by_size([*(self._steadied(picture, face) for face in upright), *far]))

    def _at_all_sizes(self, picture: Picture) -> list[Face]:
        """The faces of looks at growing size, until the largest one is large enough to have shown all that count."""
        own = max(picture.width, picture.height)
        side = min(self.LONG_SIDE, own)
        found = self._at(picture, side)
        while side < (own // 2 if found else own) and not any(f.box[2] * side / own >= self.SURE for f in found):
            side = min(2 * side, own)
            sure = [face for face in self._in_tiles(picture, side) if face.confidence >= self.SURE_CONFIDENCE]
            found = _distinct([*found, *sure], self.OVERLAP)
        return found or self._at(picture, min(self.LONG_SIDE, own) // 2)

    def _at(self, picture: Picture, long_side: int) -> list[Face]:
        """The faces found with the long side of `picture` scaled to `long_side` px."""
        return self._in_part(picture.whole(2 * long_side), long_side)

    def _in_tiles(self, picture: Picture, long_side: int) -> list[Face]:
        """The faces found with the long side of `picture` shrunk to `long_side` px, tile by tile."""
        height, width = picture.height, picture.width
        scale = long_side / max(height, width)
        tile, margin = round(self.TILE / scale), round(self.MARGIN / scale)
        found: list[Face] = []
        for y in range(0, max(1, height - margin), tile - margin):
            for x in range(0, max(1, width - margin), tile - margin):
                right, bottom = min(x + tile, width), min(y + tile, height)
                side = max(1, round(max(right - x, bottom - y) * scale))
                found += self._in_part(picture.part(x, y, right, bottom, 2 * side), side)
        return found

    def _close(self, picture: Picture, face: Face) -> Face:
        """The face in a square of twice its own longer side; as it is where that does not show it."""
        x, y, w, h = face.box
        reach = max(w, h)
        middle, level = x + w / 2, y + h / 2
        corners = (middle - reach, level - reach, middle + reach, level + reach)
        part = picture.part(*(round(corner) for corner in corners), side=2 * self.CLOSE_SIDE)
        if part.pixels.size == 0:
            return face
        seen = self._in_part(part, self.CLOSE_SIDE)
        best = max(seen, key=lambda near: _overlap(near, face), default=face)
        return best if _overlap(best, face) >= self.OVERLAP else face

    def _steadied(self, picture: Picture, face: Face) -> Face:
        """The face with the mean points of many looks at it; as it is where none shows it."""
        points = face.points
        for count in self.MEANS:
            # The net sets a nose to one side of where it is: half of the looks that count see the face mirrored.
            mirrored = [count == len(self.CROPS) and bool(at % 2) for at in range(count)]
            found = self._in_crops(picture, points, mirrored)
            if not found:
                return face
            points = np.stack(found).mean(axis=0)
        points.setflags(write=False)
        return replace(face, points=points)

    def _in_crops(
        self, picture: Picture, points: NDArray[np.float32], mirrored: Sequence[bool]
    ) -> list[NDArray[np.float32]]:
        """The points in `picture` of the face that `points` bring into the middle of the first crops, in one pass."""
        side = self.CROP_SIDE
        matrices = [
            umeyama(points, (ARCFACE_TEMPLATE - CROP / 2) * (self.CROP_SCALE * scale) + side / 2 + (x, y))
            for x, y, scale in self.CROPS[: len(mirrored)]
        ]
        parts = [warp(picture, matrix, side) for matrix in matrices]
        looks = self._net.look([part[:, ::-1] if flip else part for part, flip in zip(parts, mirrored, strict=True)])
        found: list[NDArray[np.float32]] = []
        for rows, matrix, flip in zip(looks, matrices, mirrored, strict=True):
            best = _most_central(_faces(rows), side)
            if best is None:
                continue
            marks = best.points
            if flip:
                marks = np.column_stack([side - 1 - marks[:, 0], marks[:, 1]])[MIRRORED]
            back = self._cv2.invertAffineTransform(matrix)
            found.append((marks @ back[:, :2].T + back[:, 2]).astype(np.float32))
        return found

    def _upright(self, picture: Picture, face: Face) -> Face:
        """The face by its surest look, from the sides from which it may stand upright."""
        if face.confidence >= self.UPRIGHT_CONFIDENCE and abs(face.roll) <= self.UPRIGHT_ROLL:
            return face
        looks = [look for turn in (0, 90, 180, 270) if (look := self._turned(picture, face, turn)) is not None]
        best = max(looks, key=lambda look: look[0].confidence, default=None)
        straight = max((look[0].confidence for look in looks if look[1] == 0), default=face.confidence)
        if best is None or best[0].confidence < straight + self.LEAD:
            best = (face, 0.0)
        # What is tilted by more than the net likes seems less so: each look brings it nearer.
        for _ in range(4):
            seen, turn = best
            if abs(_turn(seen.roll - turn)) <= self.LEVEL:
                break
            look = self._turned(picture, seen, seen.roll)
            if look is None or look[0].confidence < seen.confidence - self.LEAD:
                break
            best = look
        return best[0]

    def _from_other_sides(self, picture: Picture) -> list[Face]:
        """The faces of a picture that shows none as it lies."""
        side = min(self.LONG_SIDE, max(picture.width, picture.height))
        part = picture.whole(2 * side)
        height, width = part.pixels.shape[:2]
        for quarters in (1, 2, 3):
            turned = Part(np.ascontiguousarray(np.rot90(part.pixels, quarters)), 0, 0, 1)
            sure = [face for face in self._in_part(turned, side) if face.confidence >= self.SURE_CONFIDENCE]
            back = _quarters_back(quarters, width, height)
            upright = [self._upright(picture, face.under(back).under(part.to_picture)) for face in sure]
            if found := [face for face in upright if face.confidence >= self.TURNED_CONFIDENCE]:
                return _distinct(found, self.OVERLAP)
        return []

    def _turned(self, picture: Picture, face: Face, degrees: float) -> tuple[Face, float] | None:
        """A look at one face with the picture turned back by `degrees`: the face in the picture, and the angle."""
        cv2, side = self._cv2, 320
        x, y, w, h = face.box
        centre = (x + w / 2, y + h / 2)
        matrix: NDArray[np.float64] = cv2.getRotationMatrix2D(centre, degrees, 0.5 * side / max(w, h))
        matrix[:, 2] += side / 2 - np.array(centre)
        best = _most_central(_faces(self._net.look([warp(picture, matrix, side)])[0]), side)
        return None if best is None else (best.under(cv2.invertAffineTransform(matrix)), degrees)

    def _in_part(self, part: Part, long_side: int) -> list[Face]:
        """The faces found with the long side of `part` scaled to `long_side` px, in the picture that it is part of."""
        cv2 = self._cv2
        height, width = part.pixels.shape[:2]
        scale = long_side / max(height, width)
        columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = part.pixels if scale == 1 else cv2.resize(part.pixels, (columns, rows), interpolation=how)
        bottom, right = max(0, self.SHORT_SIDE - rows), max(0, self.SHORT_SIDE - columns)
        if bottom or right:
            small = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        grow = np.array([width / columns, height / rows], dtype=np.float32)
        seen = _faces(self._net.look([small])[0], grow)
        return [_placed(face, part) for face in seen]


def _faces(found: NDArray[np.float32], grow: NDArray[np.float32] | None = None) -> list[Face]:
    """The faces of YuNet's rows, their pixels multiplied by `grow`."""
    grow = np.ones(2, np.float32) if grow is None else grow
    return [_face(row, grow) for row in found if np.isfinite(row).all()]


def _placed(face: Face, part: Part) -> Face:
    """A face of a part, in the picture that it is part of."""
    if part.scale == 1 and not part.left and not part.top:
        return face
    x, y, w, h = face.box
    scale = part.scale
    points = (face.points + 0.5) * np.float32(scale) + np.array([part.left - 0.5, part.top - 0.5], np.float32)
    points = points.astype(np.float32)
    points.setflags(write=False)
    return Face((x * scale + part.left, y * scale + part.top, w * scale, h * scale), points, face.confidence)


def _most_central(faces: Sequence[Face], side: int) -> Face | None:
    """The surest of the faces in the middle of a square; None if there is none."""
    return max((face for face in faces if _is_central(face, side)), key=lambda face: face.confidence, default=None)


def _face(row: NDArray[np.float32], grow: NDArray[np.float32]) -> Face:
    """The Face of one row of YuNet (box, five points, confidence), its pixels multiplied by `grow`."""
    x, y = (float(v) for v in row[0:2] * grow)
    w, h = (float(v) for v in row[2:4] * grow)
    # Points name pixel centres, and the centre of the first pixel is at 0.
    points = ((row[4:14].reshape(5, 2) + 0.5) * grow - 0.5).astype(np.float32)
    points.setflags(write=False)
    return Face((x, y, w, h), points, float(row[14]))


def _by_size(faces: Iterable[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)


def _distinct(faces: Sequence[Face], most: float) -> list[Face]:
    """The faces, the surest of those whose boxes overlap by more than `most`."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.confidence, reverse=True):
        if all(_overlap(face, other) <= most for other in kept):
            kept.append(face)
    return kept


def _overlap(first: Face, second: Face) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    (x, y, w, h), (u, v, s, t) = first.box, second.box
    shared = max(0.0, min(x + w, u + s) - max(x, u)) * max(0.0, min(y + h, v + t) - max(y, v))
    return shared / (w * h + s * t - shared) if shared else 0.0


def _is_central(face: Face, side: int) -> bool:
    x, y, w, h = face.box
    return max(abs(x + w / 2 - side / 2), abs(y + h / 2 - side / 2)) < side / 5


def _turn(degrees: float) -> float:
    """An angle between -180 and 180."""
    return (degrees + 180) % 360 - 180


def _quarters_back(quarters: int, width: int, height: int) -> NDArray[np.float64]:
    """Takes pixels of an image [height, width] that `np.rot90` turned `quarters` times back to where they were."""
    right, bottom = width - 1, height - 1
    table = {
        1: [[0, -1, right], [1, 0, 0]],
        2: [[-1, 0, right], [0, -1, bottom]],
        3: [[0, 1, 0], [-1, 0, bottom]],
    }
    return np.array(table[quarters], dtype=np.float64)
