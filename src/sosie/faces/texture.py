"""The texture of a face's skin, at one distance between the eyes.

Skin is looked at where there is hardly anything else: on both cheeks and the forehead, where the colour is that of
the cheeks. Texture is the median magnitude of a band of detail there, so single hairs, wrinkles and edges of blocks
hardly count; what white noise would give is taken out.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.faces.align import Points
from sosie.faces.detect import Image8

Floats = NDArray[np.float32]
Pixels = NDArray[np.bool_]

SCALES = {"skin_texture": 96, "skin_relief": 48}
"""Pixels between the eyes at which each is measured: about 1 to 3 mm of skin, and 3 to 5 mm for smaller faces."""
LEAST_EYES = 0.9
"""A face is enlarged to such a scale from this part of it on: it loses nothing that is looked for."""
LEAST_SKIN = 0.4
"""A region counts where this share of it has the colour of skin."""

# What the chip shows around the middle of the eyes, in distances between the eyes: to both sides, above, below.
_ASIDE, _ABOVE, _BELOW = 1.5, 1.2, 2.0
# Middle (along the line of the eyes, down) and half axes of both cheeks and the forehead, in the same unit.
_CHEEKS = ((-0.6, 0.6, 0.24, 0.24), (0.6, 0.6, 0.24, 0.24))
_FOREHEAD = (0.0, -0.6, 0.5, 0.17)
# Skin is this near to the median of the cheeks in CIELAB: lightness (of 255, as OpenCV has it for bytes), and colour.
_LIGHTNESS, _COLOUR = 56.0, 12.0
# Sigmas of the Gaussians between which the bands lie, in pixels of the chip.
_SIGMAS = (0.7, 1.4)
# What white noise of power 1 leaves in each band; texture has much the same in both.
_WHITE = (0.515, 0.073)
_NORMAL = 0.6745


@dataclass(frozen=True, eq=False)
class FaceChip:
    """A face with `eyes` px between its eyes: RGB uint8 [h, w, 3], and its five points in it, float64 [5, 2].

    `scale` is how many pixels of it there are for one of the picture that it was cut from.
    """

    image: Image8 = field(repr=False)
    points: NDArray[np.float64] = field(repr=False)
    eyes: float
    scale: float = 1.0

    @cached_property
    def luma(self) -> Floats:
        """Luma by Rec. 601, float32 [h, w], 0 to 255."""
        return luma_of(self.image)

    @cached_property
    def places(self) -> tuple[Floats, Floats]:
        """Where each pixel is from the middle of the eyes: along their line, and down, in distances between them."""
        across = (self.points[1] - self.points[0]) / self.eyes
        middle = self.points[:2].mean(axis=0)
        height, width = self.image.shape[:2]
        dx = (np.arange(width, dtype=np.float32) - np.float32(middle[0])) / np.float32(self.eyes)
        dy = (np.arange(height, dtype=np.float32) - np.float32(middle[1]))[:, np.newaxis] / np.float32(self.eyes)
        x, y = np.float32(across[0]), np.float32(across[1])
        return np.asarray(dx * x + dy * y, np.float32), np.asarray(dy * x - dx * y, np.float32)

    def ellipse(self, along: float, down: float, wide: float, high: float) -> Pixels:
        """The pixels of an ellipse around a place, in distances between the eyes."""
        x, y = self.places
        return ((x - along) / wide) ** 2 + ((y - down) / high) ** 2 < 1

    @cached_property
    def skin(self) -> tuple[Pixels, ...]:
        """The skin of each region that shows enough of it: of up to two cheeks and the forehead."""
        cv2: Any = importlib.import_module("cv2")
        lab = cv2.cvtColor(self.image, cv2.COLOR_RGB2LAB).astype(np.float32)
        cheeks = [self.ellipse(*region) for region in _CHEEKS]
        seen = cheeks[0] | cheeks[1]
        if not seen.any():
            return ()
        off = np.abs(lab - np.median(lab[seen], axis=0))
        near = (off[..., 0] < _LIGHTNESS) & (off[..., 1] ** 2 + off[..., 2] ** 2 < _COLOUR**2)
        regions = [*cheeks, self.ellipse(*_FOREHEAD)]
        return tuple(
            region & near
            for region in regions
            if region.any() and np.count_nonzero(region & near) >= LEAST_SKIN * np.count_nonzero(region)
        )


def luma_of(image: Image8) -> Floats:
    """Luma by Rec. 601 of RGB uint8 [h, w, 3], float32 [h, w], 0 to 255."""
    cv2: Any = importlib.import_module("cv2")
    return cv2.transform(image.astype(np.float32), np.array([[0.299, 0.587, 0.114]], dtype=np.float32))


def face_chip(image: Image8, points: Points, eyes: int) -> FaceChip:
    """The face with these five `points` in `image` (RGB uint8 [h, w, 3]), `eyes` px between its eyes, not turned."""
    cv2: Any = importlib.import_module("cv2")
    points = points.astype(np.float64)
    own = float(np.linalg.norm(points[1] - points[0]))
    middle = points[:2].mean(axis=0)
    left, top = (max(0, int(v)) for v in middle - np.array([_ASIDE, _ABOVE]) * own)
    right, bottom = (int(v) + 1 for v in middle + np.array([_ASIDE, _BELOW]) * own)
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = eyes / own
    height, width = (max(1, round(side * scale)) for side in part.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(part, (width, height), interpolation=how)
    ratio = np.array([width / part.shape[1], height / part.shape[0]])
    return FaceChip(small, (points - (left, top) + 0.5) * ratio - 0.5, float(eyes), scale)


def skin_texture(chip: FaceChip, grain: float = 0.0) -> float | None:
    """Texture of the skin in per cent of its own luma; None where too little skin is seen.

    `grain` is the sigma of the whole picture's white noise, in levels at its own size; what it gives in the band is
    taken out, or what the next finer band has beyond this one, whichever is more.
    """
    cv2: Any = importlib.import_module("cv2")
    first, second = (cv2.GaussianBlur(chip.luma, (0, 0), sigma) for sigma in _SIGMAS)
    bands = (chip.luma - first, first - second)
    found: list[float] = []
    for skin in chip.skin:
        noisy, level = (float(np.median(np.abs(band[skin]))) / _NORMAL for band in bands)
        seen = max(0.0, noisy**2 - level**2) / (1 - _WHITE[1] / _WHITE[0])
        noise = max(_WHITE[1] * (grain * chip.scale) ** 2, seen * _WHITE[1] / _WHITE[0])
        found.append(100 * max(0.0, level**2 - noise) ** 0.5 / max(16.0, float(np.median(chip.luma[skin]))))
    return float(np.median(found)) if found else None


def skin_looks(image: Image8, points: Points) -> dict[str, float]:
    """What of `SCALES` can be measured of the face with these five points in a picture, RGB uint8 [h, w, 3].

    The picture's grain is not known here, so it stays in. Nothing without OpenCV, which a face pass does not need.
    """
    if importlib.util.find_spec("cv2") is None:
        return {}
    own = float(np.linalg.norm(points[1] - points[0]))
    chips = {name: face_chip(image, points, eyes) for name, eyes in SCALES.items() if own >= LEAST_EYES * eyes}
    found = {name: skin_texture(chip) for name, chip in chips.items()}
    return {name: value for name, value in found.items() if value is not None}
