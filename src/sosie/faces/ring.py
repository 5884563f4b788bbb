"""The ring just outside a mask: what a new face is compared with."""

from __future__ import annotations

import math

import numpy as np

from sosie.faces.mask import Mask, Pixels, dilated

# Width of the ring around the mask, as a share of the square root of the mask's area (about the face width).
_RING = 0.15
# A ring of fewer pixels says nothing; colour and grain then stay as they are.
LEAST_RING = 64


def ring_of(mask: Mask) -> Pixels:
    """The pixels just outside the mask; none if there are too few to measure."""
    covered = mask > 0
    ring = dilated(covered, ring_width(mask)) & ~covered
    return ring if np.count_nonzero(ring) >= LEAST_RING else np.zeros_like(ring)


def ring_width(mask: Mask) -> int:
    """How wide that ring is, in pixels."""
    return max(2, round(_RING * mask_width(mask)))


def mask_width(mask: Mask) -> float:
    """Half of an ellipse with half axes a and 1.3 a is as wide as the square root of its area, within 1 %."""
    return math.sqrt(float(mask.sum(dtype=np.float64)))
