"""At which noise a model is trained: a weighting of the timesteps, and their shift."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sosie.core.recipe import Training

if TYPE_CHECKING:
    import torch

HEAVY = 1.29
"""The scale of `mode` that its paper found best."""


def draw_timesteps(training: Training, generator: torch.Generator, count: int, levels: int) -> torch.Tensor:
    """Positions [count] in (0, 1), from clean to noise, in the middle of one of `levels` steps each, unless shifted.

    `uniform` and `weighted`: all alike. `logit-normal`: the middle more often, as sigmoid(n) of a standard normal n
    (Esser et al. 2024, arXiv:2403.03206, 3.1); `sigmoid` is what other trainers call the same. `mode`: the middle more
    often, but the ends not rarely (there, equation 20). All are then shifted by s = `timestep_shift` to
    s u / (1 + (s - 1) u) (there 5.3.2): above 1 towards noise, where large pictures are decided. All randomness comes
    from `generator`, on the CPU.
    """
    import torch

    if training.timesteps in ("logit-normal", "sigmoid"):
        position = torch.sigmoid(torch.randn((count,), generator=generator))
    else:
        position = (torch.randint(0, levels, (count,), generator=generator) + 0.5) / levels
    if training.timesteps == "mode":
        position = 1 - position - HEAVY * (torch.cos(math.pi / 2 * position) ** 2 - 1 + position)
    shift = training.timestep_shift
    return shift * position / (1 + (shift - 1) * position)


def weigh_timesteps(training: Training, positions: torch.Tensor) -> torch.Tensor:
    """What the errors at these positions count for, [count], 1 in the mean over all positions.

    `weighted`: a bell, from 0 at the ends to 1.58 in the middle. Otherwise 1.
    """
    if training.timesteps != "weighted":
        return positions.new_ones(positions.shape)
    least = math.exp(-0.5)
    mean = math.sqrt(math.pi / 2) * math.erf(math.sqrt(0.5)) - least
    return (((-2 * (positions - 0.5) ** 2).exp() - least) / mean).clamp(min=0)
