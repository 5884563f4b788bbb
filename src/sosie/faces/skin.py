"""Where a face's skin is in a picture, by the colours that the face has and its surroundings have not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sosie.faces.colour import Lab
from sosie.faces.detect import Face
from sosie.faces.mask import Mask, Pixels, face_outline, window_sum

# Colours are counted in cells of Lab: from, up to, size. What lies beyond goes to the last cell.
_CELLS = ((0.0, 100.0, 5.0), (-40.0, 60.0, 4.0), (-40.0, 72.0, 4.0))
# In face widths: the face is what lies this deep in the outline, below the brows; the surroundings begin this far from
# it, and what is below the face may be its neck and counts as neither.
_INSIDE, _OUTSIDE = 0.04, 0.40
# How many times a pixel of the cheeks and the nose counts among the face's, a beard and hair over the face being there
# too; how much a colour of the surroundings tells against it; and the share of a colour that says nothing.
_CHEEKS, _AGAINST, _RARE = 3.0, 0.7, 2e-4
# Fewer pixels of cheek say nothing.
_LEAST = 24
# The cheeks and the nose: from below the eyes to above the mouth, in parts of the way, and half the face's width to
# either side.
_CHEEKS_FROM, _CHEEKS_TO, _CHEEKS_SIDE = 0.28, 0.88, 0.62


def skin_mask(lab: Lab, face: Face) -> Mask | None:
    """How likely each pixel of a picture `lab` [h, w, 3] is the skin of `face`, float32 [h, w], by colour alone.

    Bayes' rule on two histograms, of the face and of what is around it (Jones and Rehg, "Statistical color models with
    application to skin detection", 2002), made of this one picture: so its light, and hair or a wall in the colour of
    skin, are in them. None where too little of the face is seen.
    """
    shape = (lab.shape[0], lab.shape[1])
    outline, cheeks = face_outline(face), cheeks_of(face, shape)
    if np.count_nonzero(cheeks) < _LEAST:
        return None
    distance = outline.distance(shape) / outline.width
    below = outline.below_brows(shape)
    cells = _cells(lab)
    inner = ((distance < -_INSIDE) & below).astype(np.float64)
    own = _histogram(cells, inner + (_CHEEKS - 1) * cheeks.astype(np.float64))
    others = _histogram(cells, ((distance > _OUTSIDE) & ~outline.under_chin(shape)).astype(np.float64))
    seen = own[cells]
    likely = seen / (seen + _AGAINST * others[cells] + _RARE)
    radius = max(1, round(0.012 * outline.width))
    smooth = window_sum(likely, radius) / window_sum(np.ones(shape), radius)
    return np.clip(smooth, 0, 1).astype(np.float32)


def cheeks_of(face: Face, shape: tuple[int, int]) -> Pixels:
    """The pixels [h, w] of cheeks and nose."""
    outline, points = face_outline(face), face.points.astype(np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    axis = mouth - eyes
    y, x = np.ogrid[: shape[0], : shape[1]]
    dx, dy = x - eyes[0], y - eyes[1]
    along = (dx * axis[0] + dy * axis[1]) / float(axis @ axis)
    side = (dx * axis[1] - dy * axis[0]) / float(np.hypot(*axis)) / outline.half_width
    inside = outline.distance(shape) < -_INSIDE * outline.width
    return inside & (along > _CHEEKS_FROM) & (along < _CHEEKS_TO) & (np.abs(side) < _CHEEKS_SIDE)


def _cells(lab: Lab) -> tuple[NDArray[np.intp], ...]:
    """The cell of each colour, three indices [h, w]."""
    return tuple(
        np.clip((lab[..., channel] - low) / size, 0, round((high - low) / size) - 1).astype(np.intp)
        for channel, (low, high, size) in enumerate(_CELLS)
    )


def _histogram(cells: tuple[NDArray[np.intp], ...], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each cell, smoothed over its neighbours; all 0 where nothing has weight."""
    counts = np.zeros([round((high - low) / size) for low, high, size in _CELLS])
    np.add.at(counts, cells, weights)
    for axis in range(3):
        side = np.moveaxis(counts, axis, 0)
        padded = np.pad(side, [(1, 1), (0, 0), (0, 0)])
        counts = np.moveaxis(0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:], 0, axis)
    return counts / max(1.0, float(counts.sum()))
