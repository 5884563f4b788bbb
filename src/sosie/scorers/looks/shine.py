"""Shine: skin that mirrors the light, as oil, sweat and plastic do."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from sosie.scorers.looks.look import KIND, Look
from sosie.scorers.looks.view import Floats, View
from sosie.scorers.scorer import Scale

SHINE = Scale("shine", 0.06, "share of the face's skin", 0.0, 1.0, kind=KIND)

_REGIONS = ((-0.6, 0.6, 0.24, 0.24), (0.6, 0.6, 0.24, 0.24), (0.0, -0.6, 0.5, 0.17), (0.0, 0.45, 0.2, 0.45))
"""Cheeks, forehead and nose: middle (along the line of the eyes, down) and half axes, in distances between the eyes."""
_BRIGHT, _PALE = 85.0, 0.7
"""Mirrored light is from this lightness on (CIELAB), and has at most this share of the chroma that the skin has."""
_SMOOTH = 1.0
"""Sigma of the Gaussian before, in pixels: single hairs and pores are no shine."""


def _shine(view: View) -> float | str:
    """The share of cheeks, forehead and nose that is bright and has lost the skin's colour to the light's."""
    chip = view.little
    if isinstance(chip, str):
        return chip
    cv2: Any = importlib.import_module("cv2")
    sharp = cv2.cvtColor(chip.image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab: Floats = cv2.GaussianBlur(sharp, (0, 0), _SMOOTH)
    seen = np.logical_or.reduce([chip.ellipse(*region) for region in _REGIONS])
    lightness, chroma = lab[seen, 0], np.hypot(lab[seen, 1], lab[seen, 2])
    if not len(chroma):
        return "the face lies outside the picture"
    mirrored = (lightness > _BRIGHT) & (chroma < _PALE * float(np.median(chroma)))
    return np.count_nonzero(mirrored) / len(chroma)


LOOKS = (Look(SHINE, "the skin mirrors the light", _shine),)
