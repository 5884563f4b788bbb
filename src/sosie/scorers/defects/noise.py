"""Noise over the whole image, told from texture by where it is and by its spectrum.

The level in one tile is the median absolute value of the diagonal detail of the Haar wavelet over
0.6745 (Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"): edges and
slopes hardly enter it. Noise is everywhere, also where the image is calm, so the level of the
image is a low quantile over its tiles. Where texture fills the whole image, scale tells it from
noise: with every halving of the image white noise falls by half and the noise of a coarse grain
rises first, while texture (spectrum 1/f to the power of about 1) stays much the same.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sosie.core.score import Score
from sosie.scorers.sample import Sample, luma_of
from sosie.scorers.scorer import Checks, Scale

NOISE = Scale("noise", 4.8, "levels (sigma of luma)", 0.0, 128.0)

Floats = npt.NDArray[np.floating]

_TILE = 16
"""Side of a tile in detail coefficients: 32 pixels."""
_LEAST = 4 * _TILE
"""The shorter side of an image that can be measured, in pixels."""
_SCALES = 3
_SQUARE = 2 * _TILE * 2 ** (_SCALES - 1)
"""The side of a square that has whole tiles at every scale, in pixels."""
_SQUARES = 8
"""So many squares are measured along a side; all of an image that is no larger."""
_CALM = 0.25
"""The level of the image is this quantile of its tiles' levels."""
_CLIPPED = 0.2
"""A tile with a larger share of black or white pixels hides its noise and is not counted."""
_TEXTURE = 1.4
"""Texture falls by less than this factor when the image is halved; white noise falls by 2."""
_GRAIN = 2.2
"""Texture rises by less than this factor when the image is halved; coarse grain by more."""


def scores(sample: Sample) -> list[Score]:
    """`noise`: the standard deviation of luma noise in the calm parts of the image, in levels."""
    if min(sample.height, sample.width) < _LEAST:
        return [NOISE.unmeasured(f"the image is smaller than {_LEAST} pixels")]
    sigma, grain = noise_level(_spread(sample))
    coarse = f", grains of about {grain} px" if grain > 1 else ""
    return [NOISE.score(sigma, f"noise of sigma {sigma:.0f} over the whole image{coarse}")]


def _spread(sample: Sample) -> Floats:
    """The luma that is measured: all of it, or of a large image squares that are spread over it, side by side."""
    starts = [_starts(side) for side in (sample.height, sample.width)]
    if max(sample.height, sample.width) <= _SQUARES * _SQUARE:
        return sample.luma
    rows = [
        np.hstack([luma_of(sample.pixels[top : top + _SQUARE, left : left + _SQUARE]) for left in starts[1]])
        for top in starts[0]
    ]
    return np.vstack(rows)


def _starts(side: int) -> list[int]:
    """Where squares begin along a side: as many as fit, and no more than are measured."""
    count = max(1, min(_SQUARES, side // _SQUARE))
    return [round(at * (side - _SQUARE) / max(1, count - 1)) for at in range(count)]


def noise_level(luma: Floats) -> tuple[float, int]:
    """Sigma of the noise in `luma` [h,w], both at least 64, in levels, and its grain in pixels (1, 2 or 4)."""
    levels: list[float] = []
    clipped: Floats = ((luma <= 2) | (luma >= 253)).astype(np.float32)
    while len(levels) < _SCALES and min(luma.shape) >= _LEAST:
        levels.append(_level(luma, clipped))
        luma, clipped = _halved(luma), _halved(clipped)
    fine = levels[0]
    if len(levels) > 1:
        # Of white noise, 1 - (1.4 / 2)^2 of the power is left, for which the divisor makes up.
        left = max(0.0, levels[0] ** 2 - (_TEXTURE * levels[1]) ** 2)
        fine = (left / (1 - (_TEXTURE / 2) ** 2)) ** 0.5
    risen = [(here, 2**step) for step, (finer, here) in enumerate(pairwise(levels), 1) if here >= _GRAIN * finer]
    return max([(fine, 1), *risen])


def _level(luma: Floats, clipped: Floats) -> float:
    """The level of `luma` [h,w]; `clipped` [h,w] is the share of black and white pixels at each place."""
    height, width = (side // (2 * _TILE) * 2 * _TILE for side in luma.shape)
    even = luma[:height, :width]
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    sigmas = np.median(_tiles(np.abs(a - b - c + d) / 2), axis=2) / 0.6745
    counted = sigmas[_tiles(_halved(clipped[:height, :width])).mean(axis=2) <= _CLIPPED]
    return float(np.quantile(counted if counted.size else sigmas, _CALM))


def _halved(plane: Floats) -> Floats:
    """The mean of every two by two pixels."""
    height, width = (side // 2 * 2 for side in plane.shape)
    even = plane[:height, :width]
    return ((even[::2, ::2] + even[::2, 1::2]) + (even[1::2, ::2] + even[1::2, 1::2])) / 4


def _tiles(plane: Floats) -> Floats:
    """`plane` [h,w] as [rows, columns, _TILE * _TILE]."""
    rows, columns = plane.shape[0] // _TILE, plane.shape[1] // _TILE
    return plane.reshape(rows, _TILE, columns, _TILE).swapaxes(1, 2).reshape(rows, columns, -1)


SCORER = Checks("noise", (), (NOISE,), scores)
