"""What the pixels of any picture say of light and background, in words: brightness, warmth, side, colour."""

from __future__ import annotations

import colorsys
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sosie.faces.detect import Face

DARK, BRIGHT = 70.0, 170.0
"""Mean luma (0 to 255) below which a picture is dark, and above which it is bright."""

SIDE = 1.4
"""How many times brighter one half of a face is than the other when light comes from the side."""

MOSTLY, PLAIN = 0.5, 0.85
"""The shares of the border from which one colour is named, and from which it is all that there is."""

GRID = 24
"""The border is looked at in this many cells a side."""

HUES = (
    (15, "red"),
    (45, "orange"),
    (70, "yellow"),
    (165, "green"),
    (200, "teal"),
    (255, "blue"),
    (290, "purple"),
    (340, "pink"),
    (361, "red"),
)
"""Names of hues, each up to that many degrees."""


def tone(luma: NDArray[np.float32]) -> str:
    """`low light`, `bright light` or, in between, nothing."""
    mean = float(luma.mean())
    return "low light" if mean < DARK else "bright light" if mean > BRIGHT else ""


def side_of_light(luma: NDArray[np.float32], face: Face | None) -> str:
    """From which side of the picture the face is lit, if one half is `SIDE` times brighter than the other."""
    if face is None:
        return ""
    x, y, width, height = (round(value) for value in face.box)
    left, middle, right = max(0, x), x + width // 2, x + width
    rows = luma[max(0, y) : y + height]
    one, other = rows[:, left:middle], rows[:, max(0, middle) : right]
    if not one.size or not other.size:
        return ""
    ratio = (float(one.mean()) + 1) / (float(other.mean()) + 1)
    return "light from the left" if ratio >= SIDE else "light from the right" if ratio <= 1 / SIDE else ""


def background(pixels: NDArray[np.uint8], face: Face | None) -> str:
    """The colour of the border above the shoulders: `plain grey background`, `mostly green background`, or nothing.

    The border is the outer sixth of the sides and the top, down to the chin (without a face: to the middle).
    """
    height, width = pixels.shape[:2]
    bottom = height // 2 if face is None else min(height, max(height // 4, round(face.box[1] + face.box[3])))
    side = max(1, width // 6)
    strips = [pixels[:bottom, :side], pixels[:bottom, width - side :], pixels[: max(1, height // 12)]]
    names = Counter(colour(cell) for strip in strips for cell in _cells(strip))
    name, count = names.most_common(1)[0]
    share = count / sum(names.values())
    if share < MOSTLY:
        return ""
    return f"plain {name} background" if share >= PLAIN else f"mostly {name} background"


def colour(rgb: tuple[float, float, float]) -> str:
    """The name of a colour, each channel 0 to 255."""
    red, green, blue = (value / 255 for value in rgb)
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if value < 0.16:
        return "black"
    if saturation < 0.16:
        return "white" if value > 0.85 else "grey"
    name = next(name for limit, name in HUES if hue * 360 < limit)
    return "brown" if name in ("orange", "red") and value < 0.55 and saturation < 0.75 else name


def _cells(strip: NDArray[np.uint8]) -> list[tuple[float, float, float]]:
    """Mean colours of a strip's cells."""
    rows = np.array_split(strip.astype(np.float32), min(GRID, strip.shape[0]), axis=0)
    found: list[tuple[float, float, float]] = []
    for row in rows:
        for cell in np.array_split(row, min(4, row.shape[1]), axis=1):
            red, green, blue = cell.reshape(-1, 3).mean(axis=0).tolist()
            found.append((red, green, blue))
    return found
