"""FLUX.2's timestep shift, which grows with the picture and falls with the steps.

Source: `compute_empirical_mu` of Black Forest Labs (github.com/black-forest-labs/flux2), in diffusers and ComfyUI too.
"""

from __future__ import annotations

import math

_TEN_STEPS = (8.73809524e-05, 1.89833333)
_MANY_STEPS = (0.00016927, 0.45666666)
_LARGE = 4300
"""Tokens from which on the number of steps counts no more."""


def shift_of(tokens: int, steps: int) -> float:
    """The shift of a picture of so many tokens (of 16 x 16 px), drawn in so many steps."""
    at_200 = _MANY_STEPS[0] * tokens + _MANY_STEPS[1]
    if tokens > _LARGE:
        return math.exp(at_200)
    at_10 = _TEN_STEPS[0] * tokens + _TEN_STEPS[1]
    slope = (at_200 - at_10) / 190.0
    return math.exp(slope * steps + at_200 - 200.0 * slope)
