"""One picture of a flow model, from noise or over a picture, as every family of them draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sosie.core.recipe import Sampler
from sosie.diffusion.canvas import Canvas
from sosie.diffusion.flow.levels import FlowLevels
from sosie.diffusion.flow.sampling import Noise, OnStep, noised, sample, x0_of_velocity
from sosie.diffusion.flow.spans import freed_by


@dataclass(frozen=True, eq=False)
class Start:
    """Where a picture begins: its noise levels, the noise [1, c, h, w] float32, and what noise the steps add."""

    levels: FlowLevels
    noise: Tensor
    new_noise: Noise


@dataclass(frozen=True, eq=False)
class Under:
    """What is drawn over: the latents of the picture under a canvas, as the noise is."""

    latents: Tensor
    canvas: Canvas


def draw_flow(
    sampler: Sampler,
    velocity: Callable[[Tensor, float], Tensor],
    start: Start,
    under: Under | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The latents of the picture, as the noise is. `velocity` (picture, noise level) is the way noise - x0."""
    levels, latents, freed = start.levels, start.noise, None
    if under is not None:
        latents = noised(under.latents, latents, float(levels.sigmas[0]))
        freed = freed_by(under.latents, under.canvas, levels)

    def denoised(x: Tensor, sigma: float) -> Tensor:
        x0 = x0_of_velocity(velocity(x, sigma), x, sigma)
        return x0 if freed is None else freed(x0, sigma)

    return sample(sampler.name, denoised, latents, levels, start.new_noise, on_step)
