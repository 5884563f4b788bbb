"""The noise of an image where it is flat: what shows of its grain, and may pose as texture elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_TILE = 16
"""Side of a tile in diagonal details: 32 px."""
_FLAT = 0.1
"""The flattest tenth of the tiles shows the grain alone."""
_CLIPPED = 0.2
"""A tile with a larger share of black or white pixels hides its grain."""


def flat_sigma(parts: Iterable[Floats]) -> float | None:
    """Sigma of the noise in the flattest tiles of `parts` (luma [h, w]); None where there is none to be seen.

    It is that of the diagonal details of the Haar wavelet (Donoho and Johnstone 1994), which edges and slopes hardly
    enter; by their mean magnitude, since the median of whole levels is a whole level.
    """
    sigmas = np.concatenate([np.zeros(0, np.float32), *(_sigmas(part) for part in parts)])
    return float(np.quantile(sigmas, _FLAT)) if sigmas.size else None


def _sigmas(luma: Floats) -> Floats:
    """Sigma of the noise of each tile that is not clipped."""
    rows, columns = (side // (2 * _TILE) for side in luma.shape)
    even = luma[: rows * 2 * _TILE, : columns * 2 * _TILE]
    if even.size == 0:
        return np.zeros(0, np.float32)
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    clipped = _tiles(((a <= 2) | (a >= 253)).astype(np.float32)).mean(axis=1)
    details: Floats = np.abs(a - b - c + d, dtype=np.float32)
    sigmas = _tiles(details).mean(axis=1) * np.float32(1.2533 / 2)
    return sigmas[clipped <= _CLIPPED]


def _tiles(plane: Floats) -> Floats:
    """`plane` [h, w], both multiples of a tile, as [tiles, pixels]."""
    rows, columns = plane.shape[0] // _TILE, plane.shape[1] // _TILE
    return plane.reshape(rows, _TILE, columns, _TILE).swapaxes(1, 2).reshape(rows * columns, -1)
