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
    lowest, highest = levels.min(), levels.max()
    path: Any = _sde.BrownianTreeNoiseSampler(torch.empty(tuple(shape)), lowest, highest, seed)

    def noise(sigma: Tensor, after: Tensor) -> Tensor:
        return path(*(level.float().cpu().clamp(lowest, highest) for level in (sigma, after)))

    return noise
