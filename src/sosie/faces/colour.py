"""Colours as people see them: sRGB to CIE Lab and back, and the difference CIEDE2000."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Lab = NDArray[np.float64]

# IEC 61966-2-1: linear sRGB to XYZ with the white point D65, here divided by that white.
_PRIMARIES = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ: NDArray[np.float64] = _PRIMARIES / _PRIMARIES.sum(axis=1, keepdims=True)
_FROM_XYZ = np.linalg.inv(_TO_XYZ).astype(np.float64)
_KNEE = 6 / 29


def to_lab(rgb: NDArray[np.uint8] | Floats) -> Lab:
    """Colours of sRGB [..., 3], 0 to 255, as CIE Lab 1976 (D65): L 0 to 100, a and b about -128 to 127."""
    value = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T
    x, y, z = np.moveaxis(np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(lab: Lab) -> NDArray[np.float64]:
    """The inverse of `to_lab`: sRGB 0 to 255, not rounded; colours that sRGB lacks are clipped to it."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    linear = np.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29)) @ _FROM_XYZ.T
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def ciede2000(first: Lab, second: Lab) -> NDArray[np.float64]:
    """The colour difference CIEDE2000 of Lab [..., 3] and [..., 3], all weights 1: 1 is just noticeable.

    Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary
    test data, and mathematical observations", Color Research & Application 30 (2005), equations 2 to 22.
    """
    chroma = (np.hypot(first[..., 1], first[..., 2]) + np.hypot(second[..., 1], second[..., 2])) / 2
    stretch = 1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    c1, h1 = _chroma_and_hue(first, stretch)
    c2, h2 = _chroma_and_hue(second, stretch)
    grey = c1 * c2 == 0
    turn = np.where(grey, 0.0, (h2 - h1 + 180) % 360 - 180)
    # Where the hues lie opposite, the published rounding of the difference decides; it is kept.
    turn = np.where(~grey & (h2 - h1 == 180), 180.0, turn)
    dl, dc = second[..., 0] - first[..., 0], c2 - c1
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    light, c = (first[..., 0] + second[..., 0]) / 2, (c1 + c2) / 2
    hue = np.where(grey, h1 + h2, _mean_hue(h1, h2))
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.2 * _cos(4 * hue - 63)
    sl = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    sc, sh = 1 + 0.045 * c, 1 + 0.015 * c * t
    rotation = np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))) * 2 * np.sqrt(c**7 / (c**7 + 25.0**7))
    l_part, c_part, h_part = dl / sl, dc / sc, dh / sh
    return np.sqrt(np.maximum(0, l_part**2 + c_part**2 + h_part**2 - rotation * c_part * h_part))


def _chroma_and_hue(lab: Lab, stretch: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a = stretch * lab[..., 1]
    return np.hypot(a, lab[..., 2]), np.degrees(np.arctan2(lab[..., 2], a)) % 360


def _mean_hue(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hue half way between two, on the shorter side (equation 14 of the paper)."""
    total = first + second
    far = np.abs(first - second) > 180
    return np.where(far, np.where(total < 360, total + 360, total - 360), total) / 2


def _cos(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cos(np.radians(degrees))
