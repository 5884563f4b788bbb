"""Walks a picture down its noise levels, by ComfyUI's definition of each sampler.

Own steps, not diffusers' classes: of its flow schedulers only Euler's gives what ComfyUI gives, its Heun's shifts
twice, its DPM-Solver++(2M) extrapolates over another variable, and it has no `res_multistep`. Coefficients are
computed in float64 and the picture in its own precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
from torch import Tensor

from sosie.diffusion.flow.levels import FlowLevels

UNI_PC_END = 1e-3
"""Noise level at which UniPC ends, in place of 0, where its variable has no end."""

_UNI_PC_ORDER = 3


class Denoise(Protocol):
    """The model: what the picture is without noise, x0, as it looks from `x` at noise level `sigma`."""

    def __call__(self, x: Tensor, sigma: float, /) -> Tensor:
        """x0, of the shape of `x`."""
        ...


Noise = Callable[[float, float], Tensor]
"""(noise level, next noise level) -> new noise of unit variance, of the picture's shape."""


class OnStep(Protocol):
    """Told after each step: how many are done, of how many, and the picture without noise as it looks now."""

    def __call__(self, done: int, of: int, x0: Tensor, /) -> None:
        """Called with 1 .. `of`."""
        ...


def x0_of_velocity(velocity: Tensor, x: Tensor, sigma: float) -> Tensor:
    """The picture without noise, from a flow model's velocity (noise - x0) at `x`."""
    return x - sigma * velocity


def noised(x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """The picture with the noise that it has at level `sigma`: where drawing over an image begins."""
    return (1 - sigma) * x0 + sigma * noise


def sample(
    name: str,
    denoise: Denoise,
    x: Tensor,
    levels: FlowLevels,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The picture at the last level, of the shape and precision of `x`, which lies at the first (`noised`).

    `name` is one of `samplers.SAMPLERS`; those that add noise take it from `noise`. `on_step` may raise to end it.
    """
    return _WALKS[name](_Walk(denoise, levels, noise, on_step), x)


class _Walk:
    """The levels, and the model asked at each of them."""

    def __init__(self, denoise: Denoise, levels: FlowLevels, noise: Noise | None, on_step: OnStep | None) -> None:
        self.sigmas = [float(sigma) for sigma in levels.sigmas]
        self.first_with_signal = levels.first_with_signal
        self._model = denoise
        self._noise = noise
        self._on_step = on_step

    @property
    def steps(self) -> range:
        return range(len(self.sigmas) - 1)

    def x0(self, x: Tensor, sigma: float) -> Tensor:
        return self._model(x, sigma)

    def noise(self, sigma: float, after: float) -> Tensor:
        if self._noise is None:
            raise TypeError("this sampler adds noise, and was given none")
        return self._noise(sigma, after)

    def took(self, step: int, x0: Tensor) -> None:
        if self._on_step is not None:
            self._on_step(step + 1, len(self.steps), x0)


def _euler(walk: _Walk, x: Tensor) -> Tensor:
    for step in walk.steps:
        sigma, after = walk.sigmas[step : step + 2]
        x0 = walk.x0(x, sigma)
        x = x + (x - x0) * ((after - sigma) / sigma)
        walk.took(step, x0)
    return x


def _euler_a(walk: _Walk, x: Tensor) -> Tensor:
    """Goes down to `down`, below the next level, and up to it by new noise, so that x keeps its variance."""
    for step in walk.steps:
        sigma, after = walk.sigmas[step : step + 2]
        x0 = walk.x0(x, sigma)
        if after == 0:
            x = x0
        else:
            down = after * after / sigma
            x = x * (down / sigma) + x0 * (1 - down / sigma)
            share = (1 - after) / (1 - down)
            x = x * share + walk.noise(sigma, after) * math.sqrt(after**2 - (down * share) ** 2)
        walk.took(step, x0)
    return x


def _heun(walk: _Walk, x: Tensor) -> Tensor:
    for step in walk.steps:
        sigma, after = walk.sigmas[step : step + 2]
        x0 = walk.x0(x, sigma)
        slope = (x - x0) / sigma
        if after > 0:
            there = x + slope * (after - sigma)
            slope = (slope + (there - walk.x0(there, after)) / after) / 2
        x = x + slope * (after - sigma)
        walk.took(step, x0)
    return x


def _dpmpp_2m(walk: _Walk, x: Tensor) -> Tensor:
    before: Tensor | None = None
    for step in walk.steps:
        sigma, after = walk.sigmas[step : step + 2]
        x0 = walk.x0(x, sigma)
        towards = x0
        if before is not None and after > 0:
            ratio = math.log(walk.sigmas[step - 1] / sigma) / math.log(sigma / after)
            towards = x0 + (x0 - before) / (2 * ratio)
        x = x * (after / sigma) + towards * (1 - after / sigma)
        before = x0
        walk.took(step, x0)
    return x


def _res_multistep(walk: _Walk, x: Tensor) -> Tensor:
    """The exponential integrator of order 2 with phi_1 and phi_2, where DPM-Solver++(2M) takes their limit."""
    before: Tensor | None = None
    for step in walk.steps:
        sigma, after = walk.sigmas[step : step + 2]
        x0 = walk.x0(x, sigma)
        if before is None or after == 0:
            x = x + (x - x0) * ((after - sigma) / sigma)
        else:
            h = math.log(sigma / after)
            back = math.log(sigma / walk.sigmas[step - 1]) / h
            phi_1 = -math.expm1(-h) / h
            phi_2 = (1 - phi_1) / h
            x = x * math.exp(-h) + x0 * (h * (phi_1 - phi_2 / back)) + before * (h * phi_2 / back)
        before = x0
        walk.took(step, x0)
    return x


def _dpmpp_2m_sde(walk: _Walk, x: Tensor) -> Tensor:
    """With eta 1, the midpoint form, over the logarithm of the ratio of signal to noise."""
    sigmas = [walk.first_with_signal, *walk.sigmas[1:]]
    before: Tensor | None = None
    last = 0.0
    for step in walk.steps:
        sigma, after = sigmas[step : step + 2]
        x0 = walk.x0(x, sigma)
        if after == 0:
            x = x0
        else:
            h = _log_snr(after) - _log_snr(sigma)
            taken = -math.expm1(-2 * h)
            x = x * (after / sigma * math.exp(-h)) + x0 * ((1 - after) * taken)
            if before is not None:
                x = x + (x0 - before) * (0.5 * (1 - after) * taken * h / last)
            x = x + walk.noise(sigma, after) * (after * math.sqrt(taken))
            last = h
        before = x0
        walk.took(step, x0)
    return x


def _uni_pc(walk: _Walk, x: Tensor) -> Tensor:
    """Predicts with what the model said before, asks it there, and corrects by what it says."""
    sigmas = [*walk.sigmas[:-1], walk.sigmas[-1] or UNI_PC_END]
    steps = len(walk.steps)
    order = min(_UNI_PC_ORDER, steps - 1)
    seen = [(sigmas[0], walk.x0(x, sigmas[0]))]
    for step in range(1, steps):
        used = step if step < order else min(order, steps + 1 - step)
        predicted = _bh2(x, seen[-used:], sigmas[step])
        x0 = walk.x0(predicted, sigmas[step])
        x = _bh2(x, seen[-used:], sigmas[step], corrected=x0)
        walk.took(step - 1, seen[-1][1])
        seen = [*seen, (sigmas[step], x0)][-_UNI_PC_ORDER:]
    x = _bh2(x, seen[-1:], sigmas[-1])
    walk.took(steps - 1, seen[-1][1])
    return x / (1 - sigmas[-1]) if walk.sigmas[-1] == 0 else x


def _bh2(x: Tensor, seen: Sequence[tuple[float, Tensor]], after: float, corrected: Tensor | None = None) -> Tensor:
    """UniP of order len(seen), or with what the model says there UniC of the same order (Zhao et al. 2023, alg. 5, 6).

    Over the variable -log sigma; `seen` are levels with the model's answers, the newest last.
    """
    sigma, x0 = seen[-1]
    h = math.log(sigma / after)
    ratios = [math.log(sigma / old) / h for old, _ in reversed(seen[:-1])]
    changes = [(then - x0) / ratio for ratio, (_, then) in zip(ratios, reversed(seen[:-1]), strict=True)]
    if corrected is not None:
        ratios, changes = [*ratios, 1.0], [*changes, corrected - x0]
    scale = -math.expm1(-h)
    x = x * (after / sigma) + x0 * scale
    for weight, change in zip(_weights(ratios, h), changes, strict=True):
        x = x + change * (scale * weight)
    return x


def _weights(ratios: Sequence[float], h: float) -> list[float]:
    """The a of sum_m a_m r_m^(n-1) = n! phi_(n+1)(-h) h / (1 - e^-h), n = 1, 2, ...; 1/2 for one, as published."""
    if len(ratios) == 1:
        return [0.5]
    scale = math.expm1(-h)
    phi, factorial, right = scale / -h - 1, 1, list[float]()
    for n in range(1, len(ratios) + 1):
        right.append(phi * factorial / scale)
        factorial *= n + 1
        phi = phi / -h - 1 / factorial
    powers = np.array(ratios)[None] ** np.arange(len(ratios))[:, None]
    return [float(weight) for weight in np.linalg.solve(powers, np.array(right))]


def _log_snr(sigma: float) -> float:
    return math.log((1 - sigma) / sigma)


_WALKS: Mapping[str, Callable[[_Walk, Tensor], Tensor]] = MappingProxyType(
    {
        "euler": _euler,
        "euler_a": _euler_a,
        "euler_ancestral": _euler_a,
        "heun": _heun,
        "dpmpp_2m": _dpmpp_2m,
        "dpmpp_2m_sde": _dpmpp_2m_sde,
        "res_multistep": _res_multistep,
        "uni_pc": _uni_pc,
    }
)
