"""Colours against those of earlier images: a picture, however good, that does not look like the others of its set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sosie.scorers.looks.light import BLUE_YELLOW, GREEN_RED, SATURATION

COLOURS = (SATURATION.name, GREEN_RED.name, BLUE_YELLOW.name)
"""The looks that are compared: they have no threshold of their own, since every recipe has its own colours."""

LEAST = 20
"""Earlier images without which nothing is compared."""

FAR = 4.0
"""Deviations from which a picture is unlike the others (docs/looks.md: how many clean ones that meets)."""

_INNER = (0.05, 0.95)
"""Between these quantiles of the earlier images a value is one of theirs, however far it is from their median: a set
of few prompts has a group of values for each, and the median and deviation belong to the largest groups."""

_NORMAL = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""

_FLOOR = 1.0
"""Units of CIELAB below which nobody sees a difference: no set is closer together than that."""


@dataclass(frozen=True)
class Drift:
    """How far a look of one picture is from that of `n` earlier ones, in their own deviations, with its sign.

    `middle` is their median, in the look's unit; of `deviations` those above 0 mean that the value is higher.
    """

    name: str
    value: float
    middle: float
    deviations: float
    n: int


def drifts(values: Mapping[str, float], earlier: Mapping[str, Sequence[float]]) -> list[Drift]:
    """The colours in which a picture is unlike earlier ones, by name of the look.

    Unlike is what lies more than `FAR` deviations (MAD, Hampel 1974) from their median, and more than a unit outside
    the middle nine tenths of them.
    """
    found: list[Drift] = []
    for name in COLOURS:
        before = np.asarray(earlier.get(name, ()), np.float64)
        if name not in values or len(before) < LEAST:
            continue
        middle = float(np.median(before))
        *rest, own = _scaled(name, np.array([*before, values[name]])) - _scaled(name, np.array([middle]))
        least = abs(float((_scaled(name, np.array([middle + _FLOOR])) - _scaled(name, np.array([middle])))[0]))
        deviations = float(own) / max(least, _NORMAL * float(np.median(np.abs(rest))))
        low, high = np.quantile(rest, _INNER)
        if abs(deviations) > FAR and not low - least <= own <= high + least:
            found.append(Drift(name, values[name], middle, deviations, len(before)))
    return found


def _scaled(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """On a scale on which a set spreads evenly: colourfulness has an end at 0, and pictures without any lie there."""
    return np.sqrt(values) if name == SATURATION.name else values
