"""The noise of one picture: what it starts from, and what samplers that add noise add."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from sosie.core.recipe import Sampler
from sosie.diffusion.comfy_noise import ALONG_A_PATH, path_noise, start_noise, step_generator
from sosie.diffusion.flow.levels import FlowLevels
from sosie.diffusion.flow.sampling import Noise


def flow_noise(
    sampler: Sampler, seed: int, shape: Sequence[int], levels: FlowLevels, device: torch.device | str
) -> tuple[Tensor, Noise]:
    """The noise that a picture of that shape starts from, and a source of what steps add; float32, on `device`.

    The start is the same in both manners: ComfyUI's too is drawn on the CPU. With the sampler's noise `own` the same
    generator goes on for the steps, so that every device gives one picture; with `comfy` see `comfy_noise`.
    """
    if sampler.noise == "comfy":
        start = start_noise(seed, shape)
        return start.to(device), _as_comfy(sampler.name, seed, shape, levels, device)
    source = Generator("cpu").manual_seed(seed)
    start = torch.randn(tuple(shape), generator=source)

    def own(sigma: float, after: float) -> Tensor:
        del sigma, after
        return torch.randn(tuple(shape), generator=source).to(device)

    return start.to(device), own


def _as_comfy(name: str, seed: int, shape: Sequence[int], levels: FlowLevels, device: torch.device | str) -> Noise:
    if name in ALONG_A_PATH:
        path = path_noise(seed, shape, torch.as_tensor(levels.sigmas))
        return lambda sigma, after: path(torch.tensor(sigma), torch.tensor(after)).to(device)
    source = step_generator(seed, device)
    return lambda sigma, after: torch.randn(tuple(shape), generator=source, device=device)  # noqa: ARG005
