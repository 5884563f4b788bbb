"""Blank and flat images: nothing drawn, or hardly anything."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from sosie.core.score import Score
from sosie.scorers.sample import Sample, luma_of
from sosie.scorers.scorer import Checks, Scale

BLANK = Scale("blank", 0.97, "share of pixels", 0.0, 1.0)
FLAT = Scale("flat", 6.0, "levels", 0.0, 128.0, higher_is_better=True)

_SAME = 10
"""A pixel has the image's one colour when no channel is further than this from the median, in levels."""
_SIZE = 128
"""Both are measured at this height and width: pixel noise averages out, and image size has no effect."""

_ENOUGH = 1024
"""The longer side from which on an image is halved as long as this is left of it: a mean of means is the same mean."""


def scores(sample: Sample) -> list[Score]:
    """`blank`: the share of the image in its median colour. `flat`: the detail in levels.

    Detail is the standard deviation of luma about its surroundings (gaussian, sigma 1/32 of the
    side): a blur has none, and neither has a picture drawn to one grey.
    """
    cv2: Any = importlib.import_module("cv2")
    shown = sample.picture.whole(_ENOUGH).pixels
    small = cv2.resize(shown, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    pixels: npt.NDArray[np.float32] = small.astype(np.float32)
    colour = np.median(pixels, axis=(0, 1))
    share = float((np.abs(pixels - colour).max(axis=2) <= _SAME).mean())
    luma = cv2.resize(
        sample.luma if shown is sample.pixels else luma_of(shown), (_SIZE, _SIZE), interpolation=cv2.INTER_AREA
    )
    detail = float((luma - cv2.GaussianBlur(luma, (0, 0), _SIZE / 32)).std())
    return [
        BLANK.score(share, f"the image is {_named(colour)} and nothing else"),
        FLAT.score(detail, f"hardly any contrast or detail ({detail:.1f} levels)"),
    ]


def _named(colour: npt.NDArray[np.float32]) -> str:
    if colour.max() < 24:
        return "black"
    if colour.min() > 231:
        return "white"
    if colour.max() - colour.min() < 12:
        return "grey"
    return "one colour, #" + "".join(f"{round(float(channel)):02x}" for channel in colour)


SCORER = Checks("tone", ("cv2",), (BLANK, FLAT), scores)
