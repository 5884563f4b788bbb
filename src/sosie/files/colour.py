"""Colours of other spaces as sRGB: by the ICC profile of a picture, or by what else its file says of them.

Profiles of spaces that a file only names are built here: matrix and curve, as ICC.1:2001-04, 6.3.1.2, has them.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SAME = 2
"""A profile that moves no colour by more than so much (of 255) is that of sRGB, and the pixels stay as they are."""

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]

D65 = (0.3127, 0.3290)
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024


@dataclass(frozen=True)
class Space:
    """An RGB space: x and y of white, red, green and blue, and its gamma (0: the curve of sRGB)."""

    name: str
    white: tuple[float, float]
    primaries: tuple[float, float, float, float, float, float]
    gamma: float = 0.0


SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB = Space("Adobe RGB", D65, (0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256)
DISPLAY_P3 = Space("Display P3", D65, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060))
REC_2020 = Space("Rec. 2020", D65, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), 2.4)

H273 = {9: REC_2020, 11: DISPLAY_P3, 12: DISPLAY_P3}
"""The spaces by the number of their primaries in ITU-T H.273; what is not here is taken for sRGB."""

HDR = (16, 18)
"""The numbers of the transfer functions of high dynamic range there: PQ and HLG."""


def to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """The picture (L, RGB or CMYK) as RGB with the colours of sRGB, and the name of the space that it had.

    The name is empty if nothing was converted: the profile is sRGB's, fits no such picture, or is damaged.
    """
    cms: Any = importlib.import_module("PIL.ImageCms")
    try:
        opened = cms.ImageCmsProfile(BytesIO(profile))
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(opened.profile.xcolor_space.strip(), "")
        if not mode or (mode == "CMYK") != (image.mode == "CMYK"):
            return image.convert("RGB"), ""
        source = image.convert(mode)
        transform = cms.buildTransform(opened, cms.createProfile("sRGB"), mode, "RGB")
        if mode != "CMYK" and _moves_nothing(lambda cube: cms.applyTransform(cube, transform), mode):
            return image.convert("RGB"), ""
        name = " ".join(str(opened.profile.profile_description or "another colour space").split())
        return cms.applyTransform(source, transform) or source, name
    except (cms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB"), ""


@cache
def profile_of(space: Space) -> bytes:
    """An ICC profile of the space."""
    white = _xyz(space.white)
    red, green, blue = (_xyz((space.primaries[place], space.primaries[place + 1])) for place in (0, 2, 4))
    shares = np.linalg.solve(np.stack([red, green, blue], axis=1), white)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    columns = [adapt @ (column * share) for column, share in zip((red, green, blue), shares, strict=True)]
    return _profile(space.name, columns, _curve(space.gamma))


def space_of_png(chromaticity: Sequence[float] | None, gamma: float | None) -> Space | None:
    """The space that cHRM (white, red, green, blue as x and y) and gAMA of a PNG give; None if that is sRGB's.

    A gamma of 1/2.2 is how old programs say sRGB.
    """
    curve = 0.0 if gamma is None or gamma <= 0 or abs(gamma - 1 / 2.2) < 0.005 else 1 / gamma
    near = chromaticity is None or np.allclose(chromaticity, (*D65, *SRGB_PRIMARIES), atol=0.005)
    if near and not curve:
        return None
    x, y, *rest = (*D65, *SRGB_PRIMARIES) if chromaticity is None else chromaticity
    if len(rest) != 6 or min(y, *rest[1::2]) <= 0 or not 0.2 <= (curve or 1) <= 8:
        return None
    return Space(
        "the colours of its cHRM and gAMA", (x, y), (rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]), curve
    )


def _moves_nothing(apply: Callable[[Image.Image], Image.Image | None], mode: str) -> bool:
    steps = range(0, 256, 51)
    if mode == "L":
        before = np.array([steps], np.uint8)
        wanted = np.repeat(before[..., None], 3, axis=2)
    else:
        wanted = before = np.array([list(product(steps, repeat=3))], np.uint8)
    after = apply(Image.fromarray(before))
    return after is not None and int(np.abs(np.asarray(after).astype(int) - wanted).max()) <= SAME


def _xyz(point: tuple[float, float]) -> NDArray[np.float64]:
    """X, Y and Z of a chromaticity, with Y = 1."""
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _curve(gamma: float) -> bytes:
    """A curve from 0 to 1: a power, or that of sRGB as a table."""
    if gamma:
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    steps = np.linspace(0, 1, _CURVE_POINTS)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    table = np.round(linear * 65535).astype(">u2").tobytes()
    return b"curv\0\0\0\0" + struct.pack(">I", _CURVE_POINTS) + table


def _profile(name: str, columns: Sequence[NDArray[np.float64]], curve: bytes) -> bytes:
    text = name.encode("ascii") + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(8 + 3 + 67),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _point(_D50),
        **{key: _point(column) for key, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for key, data in tags.items():
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + struct.pack(">6H", 2025, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += _point(_D50)[8:] + bytes(48)
    return struct.pack(">I", 4 + len(head) + len(table) + len(body)) + head + table + body


def _point(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
