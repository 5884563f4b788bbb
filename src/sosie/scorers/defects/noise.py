"""Noise over the whole image, told from texture by where it is: everywhere, also where it is calm.

The estimate in one tile is the median absolute value of the diagonal detail of the Haar wavelet
over 0.6745 (Donoho and Johnstone 1994, "Ideal spatial adaptation by wavelet shrinkage"): edges and
slopes hardly enter it. Texture still does, so the image's value is a low quantile over its tiles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sosie.core.score import Score
from sosie.scorers.defects.check import Check
from sosie.scorers.sample import Sample

NOISE = Check("noise", 5.0, "levels (sigma of luma)", 0.0, 128.0)
CHECKS = (NOISE,)

_TILE = 16
"""Side of a tile in detail coefficients: 32 pixels."""
_CALM = 0.25
"""The image's noise is this quantile of its tiles' noise."""
_CLIPPED = 0.2
"""A tile with a larger share of black or white pixels hides its noise and is not counted."""


def scores(sample: Sample) -> list[Score]:
    """`noise`: the standard deviation of luma noise in the calm parts of the image, in levels."""
    if min(sample.height, sample.width) < 4 * _TILE:
        return [NOISE.unmeasured(f"the image is smaller than {4 * _TILE} pixels")]
    sigma = noise_level(sample.luma)
    return [NOISE.score(sigma, f"noise of sigma {sigma:.0f} over the whole image")]


def noise_level(luma: npt.NDArray[np.float32]) -> float:
    """Sigma in levels of `luma` [h,w], both at least 64."""
    height, width = (side // (2 * _TILE) * 2 * _TILE for side in luma.shape)
    even = luma[:height, :width]
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    sigmas = np.median(_tiles(np.abs(a - b - c + d) / 2), axis=2) / 0.6745
    clipped = _tiles(((even <= 2) | (even >= 253)).reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)))
    counted = sigmas[clipped.mean(axis=2) <= _CLIPPED]
    return float(np.quantile(counted if counted.size else sigmas, _CALM))


def _tiles(plane: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """`plane` [h,w] as [rows, columns, _TILE * _TILE]."""
    rows, columns = plane.shape[0] // _TILE, plane.shape[1] // _TILE
    return plane.reshape(rows, _TILE, columns, _TILE).swapaxes(1, 2).reshape(rows, columns, -1)
