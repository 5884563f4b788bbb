"""Light and colour of the whole picture: clipped highlights, colourfulness, a cast."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from sosie.scorers.looks.look import KIND, Look
from sosie.scorers.looks.view import View
from sosie.scorers.scorer import Scale

HIGHLIGHTS = Scale("highlights", 0.05, "share of pixels", 0.0, 1.0, kind=KIND)
SATURATION = Scale("saturation", None, "mean chroma, CIELAB", 0.0, 134.0, kind=KIND)
GREEN_RED = Scale("green_red", None, "mean a*, CIELAB", -128.0, 128.0, kind=KIND)
BLUE_YELLOW = Scale("blue_yellow", None, "mean b*, CIELAB", -128.0, 128.0, kind=KIND)

_WHITE = 253
"""A channel from here on is full: JPEG and scaling move it by a level or two."""


def _highlights(view: View) -> float:
    """The share of pixels whose three channels are all full."""
    cv2: Any = importlib.import_module("cv2")
    full = cv2.inRange(view.small, (_WHITE, _WHITE, _WHITE), (255, 255, 255))
    return float(cv2.countNonZero(full)) / full.size


def _saturation(view: View) -> float:
    return float(np.hypot(view.lab[..., 1], view.lab[..., 2]).mean())


def _green_red(view: View) -> float:
    return float(view.lab[..., 1].mean())


def _blue_yellow(view: View) -> float:
    return float(view.lab[..., 2].mean())


LOOKS = (
    Look(HIGHLIGHTS, "much of the picture is white without any detail", _highlights),
    Look(SATURATION, "the colours are too strong", _saturation),
    Look(GREEN_RED, "the picture leans to red", _green_red),
    Look(BLUE_YELLOW, "the picture leans to yellow", _blue_yellow),
)
