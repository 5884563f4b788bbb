"""The key-point image: what InstantID's ControlNet, and mini's, is shown in place of a face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sosie.faces.align import Points
from sosie.faces.detect import Image8

# Left eye (of the picture), right eye, nose, left and right corner of the mouth.
COLOURS: tuple[tuple[int, int, int], ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
_NOSE = 2
_LIMB_SHARE = 0.6


@dataclass(frozen=True)
class KeypointStyle:
    """How thick a key-point image is drawn, in pixels of that image.

    `stick` is half the width of a limb in its middle, `radius` that of a disc; both above 0. A
    ControlNet knows only the style that it was trained on.
    """

    stick: float
    radius: float


# The InstantID repository (Wang et al. 2024, arXiv 2401.07519) draws so at any size of the image.
INSTANTID_STYLE = KeypointStyle(stick=4.0, radius=10.0)


def draw_keypoints(points: Points, shape: tuple[int, int], style: KeypointStyle = INSTANTID_STYLE) -> Image8:
    """The five `points` (pixels of the image) of one face as an RGB image uint8 [h, w, 3], `shape` = (h, w).

    On black four limbs, thin ellipses from eyes and mouth corners to the nose in their own colour
    x 0.6, later ones over earlier ones; over them the five discs in full colour. As in InstantID
    centres, half lengths and angles (degrees) are cut to whole numbers, the corners of the ellipses
    are rounded, and edges are hard: its net has seen nothing else. What lies outside the image is
    left out. ValueError unless `points` is finite [5, 2], and `shape` and `style` are positive.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"expected five finite points [5, 2], got {points.shape}")
    if min(shape) < 1 or min(style.stick, style.radius) <= 0:
        raise ValueError(f"expected positive sizes, got an image of {shape} and {style}")
    canvas = Image.new("RGB", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for index, colour in enumerate(COLOURS):
        if index != _NOSE:
            red, green, blue = (int(value * _LIMB_SHARE) for value in colour)
            draw.polygon(_limb(points[index], points[_NOSE], style.stick), (red, green, blue), (red, green, blue))
    image = np.array(canvas)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for point, colour in zip(np.trunc(points), COLOURS, strict=True):
        image[(x - point[0]) ** 2 + (y - point[1]) ** 2 <= style.radius**2] = colour
    return image


def _limb(start: NDArray[np.float64], end: NDArray[np.float64], stick: float) -> list[tuple[int, int]]:
    """The corners, one a degree, of the ellipse between two points."""
    dx, dy = start - end
    middle_x, middle_y = np.trunc((start + end) / 2)
    half = math.trunc(math.hypot(dx, dy) / 2)
    turn = math.radians(math.trunc(math.degrees(math.atan2(dy, dx))))
    around = np.radians(np.arange(360))
    along, across = half * np.cos(around), stick * np.sin(around)
    x = middle_x + along * math.cos(turn) - across * math.sin(turn)
    y = middle_y + along * math.sin(turn) + across * math.cos(turn)
    return [(round(float(a)), round(float(b))) for a, b in zip(x, y, strict=True)]
