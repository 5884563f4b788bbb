"""What must be true of every step: a finite loss that is not exactly zero, and a gradient like those before."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sosie.core import Finding
from sosie.core.finding import Rule

U010 = Rule("SOS-U010", "warning", "The loss is not a number")
U011 = Rule("SOS-U011", "warning", "The loss is exactly zero")
U012 = Rule("SOS-U012", "warning", "A gradient is a spike")

SPIKE = 25.0
"""A gradient this many times the median of the last ones is a spike. Ordinary ones vary some 5 times with the noise."""

WINDOW = 100
"""How many norms are remembered."""

ENOUGH = 20
"""Of fewer steps no median is made: in the first ones gradients grow from the matrices that start at zero."""


def check_loss(step: int, loss: float, images: Sequence[str]) -> Finding | None:
    """SOS-U010 for NaN or infinity, SOS-U011 for exactly zero, else None.

    `loss` is the batch's mean squared error without weights, which may be zero themselves.
    """
    if not math.isfinite(loss):
        message = f"the loss of step {step} is {loss}; the batch was {', '.join(images)}"
        return U010.at("loss", message, "look at these images, or train in bf16 or fp32")
    if loss == 0:
        message = (
            f"the loss of step {step} is exactly 0, which nothing that learns gives; the batch was {', '.join(images)}"
        )
        return U011.at("loss", message, "the model's output does not depend on its weights")
    return None


def check_gradient(step: int, norm: float, norms: Sequence[float], images: Sequence[str]) -> Finding | None:
    """SOS-U010 for a norm that is not finite, SOS-U012 for a spike against the last `norms`, else None."""
    if not math.isfinite(norm):
        message = f"the gradient of step {step} is {norm}; the batch was {', '.join(images)}"
        return U010.at("loss", message, "look at these images, or train in bf16 or fp32")
    if len(norms) >= ENOUGH and norm > SPIKE * (usual := statistics.median(norms)):
        message = (
            f"the gradient of step {step} has the norm {norm:.3g}, {norm / usual:.0f} times the usual {usual:.3g}; "
            f"the batch was {', '.join(images)}"
        )
        return U012.at("loss", message, "look at these images, or lower the learning rate")
    return None
