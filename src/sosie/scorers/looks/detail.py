"""Fine detail: grain where the picture is flat, and how sharp the face is beside the picture."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from sosie.scorers.looks.look import KIND, Look
from sosie.scorers.looks.view import Floats, Grey, View
from sosie.scorers.scorer import Scale

GRAIN = Scale("grain", None, "levels (sigma of luma)", 0.0, 128.0, kind=KIND)
FACE_SHARPNESS = Scale(
    "face_sharpness", 0.7, "sharpness of the sharpest rest", 0.0, 10.0, higher_is_better=True, kind=KIND
)

_EYES = 24
"""Fewer pixels between the eyes, of a picture of at most `LONG_SIDE` px, show no sharpness."""
_EDGES = 0.1
"""A square shows edges where this share of it is one, or less of a stronger one."""
_SHARPEST = 0.9
"""The sharpest tenth of a region's squares shows how sharp it is."""
_CONTRAST = 24
"""A part of the rest without a step of so many levels has no edge."""


def _grain(view: View) -> float | str:
    return view.grain


def _face_sharpness(view: View) -> float | str:
    """The sharpness of the face over that of the picture's sharpest other part of its size.

    Sharpness is the slope over one pixel as a share of the step within three pixels around it, so that it hardly
    depends on contrast; edges count by their strength.
    """
    face = view.face
    if isinstance(face, str):
        return face
    eyes = face.interocular * view.scale
    if eyes < _EYES:
        return f"{eyes:.0f} px between the eyes at {max(view.small.shape[:2])} px; at least {_EYES} are needed"
    sharpness = _sharpness(view.luma)
    x, y, width, height = (side * view.scale for side in face.box)
    top, left = max(0, round(y)), max(0, round(x))
    bottom, right = max(top + 1, round(y + height)), max(left + 1, round(x + width))
    side = max(16, round(eyes / 2))
    inner = _strongest(sharpness[top:bottom, left:right], side)
    rest = sharpness.copy()
    rest[max(0, top - side) : bottom + side, max(0, left - side) : right + side] = 0
    outer = _strongest(rest, side)
    if not inner or not outer:
        return f"no edge is seen {'outside' if inner else 'in'} the face"
    return inner / outer


def _sharpness(luma: Grey) -> Floats:
    """Of each pixel the square of the slope there and that of the step around it, float32 [h, w, 2]; 0 off edges."""
    cv2: Any = importlib.import_module("cv2")
    reach = np.ones((7, 7), np.uint8)
    step = cv2.subtract(cv2.dilate(luma, reach), cv2.erode(luma, reach))
    slope = np.zeros_like(luma)
    slope[:, 1:] = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    slope[1:] = cv2.max(slope[1:], cv2.absdiff(luma[1:], luma[:-1]))
    both = cv2.merge([slope, step])
    both[step < _CONTRAST] = 0
    squares = both.astype(np.float32)
    return squares * squares


def _strongest(sharpness: Floats, side: int) -> float:
    """The sharpness, 0 to 1, of the sharpest tenth of the squares of `side` px that show edges; 0 where none does."""
    cv2: Any = importlib.import_module("cv2")
    rows, columns = (length // side for length in sharpness.shape[:2])
    if not rows or not columns:
        return 0.0
    squares = cv2.resize(sharpness[: rows * side, : columns * side], (columns, rows), interpolation=cv2.INTER_AREA)
    slope, step = squares.reshape(-1, 2).T
    edges = step > _EDGES * _CONTRAST**2
    return float(np.quantile(np.sqrt(slope[edges] / step[edges]), _SHARPEST)) if edges.any() else 0.0


LOOKS = (
    Look(GRAIN, "there is grain also where the picture is flat", _grain),
    Look(FACE_SHARPNESS, "the face is much softer than the rest of the picture", _face_sharpness),
)
