"""Eyes and mouth: smeared where their edges are spread out, whatever their contrast."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from sosie.faces.texture import FaceChip
from sosie.scorers.looks.look import KIND, Look
from sosie.scorers.looks.view import View
from sosie.scorers.scorer import Scale

EYES = Scale("eyes", 0.25, "share of a step in one pixel", 0.0, 1.0, higher_is_better=True, kind=KIND)
MOUTH = Scale("mouth", 0.26, "share of a step in one pixel", 0.0, 1.0, higher_is_better=True, kind=KIND)

_EYE = (0.3, 0.2)
_MOUTH = (0.5, 0.25)
"""Half axes of what is looked at, in distances between the eyes."""
_STEEP = 0.7
"""The edges of a region are where it has the highest steps: three tenths of it."""


def _eyes(view: View) -> float | str:
    """The smeared one of both eyes."""
    chip = view.little
    if isinstance(chip, str):
        return chip
    return min(_steepness(chip, along, 0.0, _EYE) for along in (-0.5, 0.5))


def _mouth(view: View) -> float | str:
    chip = view.little
    if isinstance(chip, str):
        return chip
    across = (chip.points[1] - chip.points[0]) / chip.eyes
    x, y = (chip.points[3:].mean(axis=0) - chip.points[:2].mean(axis=0)) / chip.eyes
    return _steepness(chip, float(x * across[0] + y * across[1]), float(y * across[0] - x * across[1]), _MOUTH)


def _steepness(chip: FaceChip, along: float, down: float, half: tuple[float, float]) -> float:
    """Which share of the step within two pixels is taken in one, at the edges around a place; 0 where there is none."""
    cv2: Any = importlib.import_module("cv2")
    region = chip.ellipse(along, down, *half)
    if not region.any():
        return 0.0
    reach = np.ones((5, 5), np.uint8)
    luma = chip.luma
    step = cv2.dilate(luma, reach) - cv2.erode(luma, reach)
    slope = np.zeros_like(luma)
    slope[:, 1:] = np.abs(luma[:, 1:] - luma[:, :-1])
    slope[1:] = np.maximum(slope[1:], np.abs(luma[1:] - luma[:-1]))
    edges = region & (step >= np.quantile(step[region], _STEEP))
    return float(np.sqrt((slope[edges] ** 2).sum() / max(1.0, float((step[edges] ** 2).sum()))))


LOOKS = (
    Look(EYES, "an eye is smeared", _eyes),
    Look(MOUTH, "the mouth is smeared", _mouth),
)
