"""Noise as a ComfyUI server draws it from a seed, so that the same seed gives the same picture here and there.

| noise                               | how ComfyUI draws it                                                        |
|-------------------------------------|-----------------------------------------------------------------------------|
| that a picture starts from          | on the CPU, in float32, from the generator of the seed                      |
| that a step adds                    | on the picture's own device, from a generator of the seed; on the CPU, where those numbers were the picture's start, of seed + 1 (since PR #11528, December 2025) |
| of `dpmpp_sde` and `dpmpp_2m_sde`   | along one Brownian path from the highest level to the lowest above 0, on the CPU, by torchsde |

A seed has 64 bits there and 63 here.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.schedulers import scheduling_dpmsolver_sde
from torch import Generator, Tensor

ALONG_A_PATH = ("dpmpp_sde", "dpmpp_2m_sde")
"""Samplers whose noise lies on one Brownian path."""

_DIGITS = 6
"""Of torchsde's levels, by its tolerance of 1e-6."""

_sde: Any = scheduling_dpmsolver_sde


def start_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """The noise that a picture starts from: float32, on the CPU, of unit variance."""
    return torch.randn(tuple(shape), generator=Generator("cpu").manual_seed(seed), dtype=torch.float32)


def step_generator(seed: int, device: torch.device | str) -> Generator:
    """The generator of what steps add, on the device on which the picture lies."""
    place = torch.device(device)
    return Generator(place).manual_seed(seed + 1 if place.type == "cpu" else seed)


def path_noise(seed: int, shape: Sequence[int], sigmas: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (level, next level) -> noise of unit variance along one path over all `sigmas`: float32, CPU."""
    levels = sigmas[sigmas > 0].float().cpu()
    tree: Any = _sde.BatchedBrownianTree(torch.empty(tuple(shape)), levels.min(), levels.max(), seed)
    # The tree rounds its ends, and would warn of a step beyond them before it takes them.
    lowest, highest = (round(float(level), _DIGITS) for level in (levels.min(), levels.max()))

    def noise(sigma: Tensor, after: Tensor) -> Tensor:
        ends = [float(level) for level in (sigma, after)]
        return tree(*(min(max(end, lowest), highest) for end in ends)) / abs(ends[1] - ends[0]) ** 0.5

    return noise
