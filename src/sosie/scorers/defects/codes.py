"""QR and other two-dimensional codes, and what looks like one and cannot be read.

Codes are read by zxing-cpp (Apache-2.0). Code-like texture is found tile by tile: two tones, edges
along rows and columns only, and rows (columns) that change often and unlike each other, which
checked cloth and brick walls do not.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from sosie.core.score import Score
from sosie.scorers.sample import Sample, luma_of
from sosie.scorers.scorer import Checks, Scale

QR = Scale("qr", 1.0, "codes", 0.0, 99.0)

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

_ENOUGH = 1024
"""A larger image is halved as long as its longer side keeps this: codes are looked for at 1024 to 2047 px."""
_TILE = 32
_STEP = _TILE // 2
_LEVELS = 3
"""Tiles are looked at in the image at full, half and quarter size: cells of 3 to 20 pixels."""
_PATCH = 4
"""So many tiles at one size look like a code: an area of about 50 pixels square there."""
_CONTRAST = 50.0
"""The least difference of the two tones, in levels."""
_SPREAD = 0.25
"""The largest standard deviation within a tone, as a share of their difference."""
_ALIGNED = 0.7
"""The least share of the gradients' power that lies along rows or columns (within 13 degrees)."""
_CHANGES = 2.4
"""The least number of changes of tone along a row, and along a column, of a tile, on average."""
_ALIKE = 0.5
"""The largest mean correlation (absolute) between the rows, and between the columns, of a tile."""


def scores(sample: Sample) -> list[Score]:
    """`qr`: how many codes can be read; 1 if none can, but a part of the image looks like one."""
    zxing: Any = importlib.import_module("zxingcpp")
    part = sample.picture.whole(_ENOUGH)
    luma = sample.luma if part.scale == 1 else luma_of(part.pixels)
    grey = np.ascontiguousarray(luma.round().astype(np.uint8))
    found: list[Any] = zxing.read_barcodes(grey, formats=zxing.BarcodeFormat.MatrixCodes)
    if found:
        return [QR.score(len(found), "; ".join(_named(code, part.scale) for code in found))]
    place = _code_like(luma)
    if place is None:
        return [QR.score(0, "")]
    x, y = (part.scale * edge for edge in place)
    return [QR.score(1, f"a texture like that of a QR code near x {x}, y {y}")]


def _named(code: Any, scale: int) -> str:
    corner = code.position.top_left
    return f"a code ({code.format}) at x {scale * corner.x}, y {scale * corner.y}"


def _code_like(luma: Floats) -> tuple[int, int] | None:
    """The middle (x, y) of the tiles of [h,w] `luma` that look like a code, or None."""
    cv2: Any = importlib.import_module("cv2")
    for level in range(_LEVELS):
        if min(luma.shape) < 2 * _TILE:
            return None
        tops, lefts = _aligned(luma)
        if len(tops) >= _PATCH:
            tiles = np.lib.stride_tricks.sliding_window_view(luma, (_TILE, _TILE))[tops, lefts]
            kept = _two_tone(tiles)
            if kept.sum() >= _PATCH:
                x, y = (2**level * (float(np.median(edge[kept])) + _STEP) for edge in (lefts, tops))
                return round(x), round(y)
        luma = cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return None


def _aligned(luma: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Top and left of the tiles with enough contrast whose edges run along rows and columns, both."""
    cv2: Any = importlib.import_module("cv2")

    def mean(plane: Floats) -> Floats:
        whole: Floats = cv2.blur(plane, (_TILE, _TILE), anchor=(0, 0))
        return whole[: luma.shape[0] - _TILE + 1 : _STEP, : luma.shape[1] - _TILE + 1 : _STEP]

    across: Floats = cv2.Sobel(luma, cv2.CV_32F, 1, 0) ** 2
    down: Floats = cv2.Sobel(luma, cv2.CV_32F, 0, 1) ** 2
    power = across + down
    straight = np.minimum(across, down) < 0.05 * np.maximum(across, down)
    total = mean(power) + 1e-3
    share = mean(across) / total
    variance = mean(luma**2) - mean(luma) ** 2
    kept = (variance >= (0.4 * _CONTRAST) ** 2) & (mean(power * straight) >= _ALIGNED * total)
    rows, columns = np.nonzero(kept & (np.abs(share - 0.5) < 0.25))
    return rows * _STEP, columns * _STEP


def _two_tone(tiles: Floats) -> Bools:
    """Which of [n, 32, 32] tiles are of two tones that change often and irregularly."""
    low, high = np.quantile(tiles, (0.05, 0.95), axis=(1, 2))
    bright = tiles > ((low + high) / 2)[:, None, None]
    share = bright.mean(axis=(1, 2)).clip(0.01, 0.99)
    light = (tiles * bright).mean(axis=(1, 2)) / share
    dark = (tiles * ~bright).mean(axis=(1, 2)) / (1 - share)
    tone = dark[:, None, None] + bright * (light - dark)[:, None, None]
    spread = np.sqrt(((tiles - tone) ** 2).mean(axis=(1, 2)))
    along, down = ((np.diff(bright, axis=axis)).sum(axis=axis).mean(axis=1) for axis in (2, 1))
    signs = bright.astype(np.float32) * 2 - 1
    rows, columns = signs @ signs.swapaxes(1, 2), signs.swapaxes(1, 2) @ signs
    alike = np.maximum(np.abs(rows).mean(axis=(1, 2)), np.abs(columns).mean(axis=(1, 2))) / _TILE
    return (
        (high - low >= _CONTRAST)
        & (np.abs(share - 0.5) < 0.25)
        & (spread <= _SPREAD * (light - dark))
        & (np.minimum(along, down) >= _CHANGES)
        & (alike <= _ALIKE)
    )


SCORER = Checks("codes", ("zxingcpp", "cv2"), (QR,), scores)
