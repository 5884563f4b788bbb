"""Noise levels of a schedule, by one formula each for every sampler and kind of model.

diffusers' classes differ in which range they stretch `karras` over, and have no `sgm_uniform`, no
`simple`, no `normal` and another `beta`. A noise level is sigma = sqrt((1 - abar) / abar).

| schedule      | source                                                                          |
|---------------|---------------------------------------------------------------------------------|
| `model`       | Lin et al. 2023 (arXiv:2305.08891), table 2, by the model's own `timestep_spacing` |
| `karras`      | Karras et al. 2022 (arXiv:2206.00364), eq. 5, rho 7, over all trained levels     |
| `exponential` | equal steps of log sigma over all trained levels (k-diffusion)                   |
| `sgm_uniform` | equal timesteps from the last to the first, without the first (generative-models) |
| `simple`      | every n-th trained level from the last (ComfyUI)                                 |
| `normal`      | equal timesteps from the last to the first (ComfyUI)                              |
| `beta`        | quantiles of Beta(0.6, 0.6) over the timesteps (arXiv:2407.12173, as in ComfyUI)  |
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.core.recipe import Schedule

_BETA = 0.6
_RHO = 7.0


def noise_levels(
    schedule: Schedule, trained: NDArray[np.float64], steps: int, spacing: str = "leading", offset: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise levels [k + 1], descending to 0, and the timesteps [k] at which the model sees them.

    `trained` holds the levels of the model's training, ascending, float64 [N]. `spacing` and
    `offset` are the model's, for schedule `model`. k is `steps`, or less where `beta` meets the
    same timestep twice (from about 100 steps on). Timesteps may lie between whole ones.
    """
    count = len(trained)
    whole = np.arange(count, dtype=np.float64)
    if schedule in ("karras", "exponential"):
        ramp = np.linspace(0, 1, steps)
        power = 1 / _RHO if schedule == "karras" else 0.0
        sigmas = _between(float(trained[-1]), float(trained[0]), ramp, power)
        timesteps = np.interp(np.log(sigmas), np.log(trained), whole)
    elif schedule in ("sgm_uniform", "normal"):
        timesteps = np.linspace(count - 1, 0, steps + (schedule == "sgm_uniform"))[:steps]
        sigmas = np.exp(np.interp(timesteps, whole, np.log(trained)))
    else:
        if schedule == "simple":
            timesteps = count - 1 - np.floor(np.arange(steps) * (count / steps))
        elif schedule == "beta":
            from scipy import stats

            beta: Any = stats.beta
            shares = beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), _BETA, _BETA)
            timesteps = np.unique(np.rint(shares * (count - 1)))[::-1]
        else:
            timesteps = _spaced(count, steps, spacing, offset)
        sigmas = np.interp(timesteps, whole, trained)
    return np.append(sigmas, 0.0), timesteps


def _between(first: float, last: float, ramp: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """From `first` to `last` in equal steps of sigma^power, of log sigma where power is 0."""
    if not power:
        return np.exp(np.log(first) + ramp * (np.log(last) - np.log(first)))
    return (first**power + ramp * (last**power - first**power)) ** (1 / power)


def _spaced(count: int, steps: int, spacing: str, offset: int) -> NDArray[np.float64]:
    if spacing == "trailing":
        # Cut, since rounding makes it one longer at 61 or 103 steps, where diffusers asks the model at -1.
        return np.arange(count, 0, -count / steps).round()[:steps] - 1
    if spacing == "linspace":
        return np.linspace(0, count - 1, steps, dtype=np.float32)[::-1].astype(np.float64)
    return (np.arange(steps) * (count // steps))[::-1].astype(np.float64) + offset
