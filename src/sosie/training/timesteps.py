"""At which noise a model is trained: a weighting of the timesteps, and their shift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.core.recipe import Training

if TYPE_CHECKING:
    import torch


def draw_timesteps(training: Training, generator: torch.Generator, count: int, levels: int) -> torch.Tensor:
    """Positions [count] in (0, 1), from clean to noise, in the middle of one of `levels` steps each, unless shifted.

    `uniform`: all alike. `logit-normal`: the middle more often, as sigmoid(n) of a standard normal n (Esser et al.
    2024, arXiv:2403.03206, 3.1). Both are then shifted by s = `timestep_shift` to s u / (1 + (s - 1) u) (there 5.3.2):
    above 1 towards noise, where large pictures are decided. All randomness comes from `generator`, on the CPU.
    """
    import torch

    if training.timesteps == "uniform":
        position = (torch.randint(0, levels, (count,), generator=generator) + 0.5) / levels
    else:
        position = torch.sigmoid(torch.randn((count,), generator=generator))
    shift = training.timestep_shift
    return shift * position / (1 + (shift - 1) * position)
