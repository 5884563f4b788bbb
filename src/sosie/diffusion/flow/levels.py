"""Noise levels of a flow model by each schedule's own definition.

The levels of training are s(u) = shift u / (1 + (shift - 1) u) for u = 1/1000 .. 1; the model sees 1000 s as timestep.

| schedule      | levels                                                                                        |
|---------------|-----------------------------------------------------------------------------------------------|
| `model`       | s(1 - i / steps), as diffusers' pipelines lay them for `FlowMatchEulerDiscreteScheduler`        |
| `simple`      | every (1000 / steps)-th level of training from the last (ComfyUI)                               |
| `normal`      | s of equal steps from 1 to s(1/1000): what ComfyUI computes, though its last level is s(s(1/1000)) |
| `sgm_uniform` | the same with one step more, without the last                                                   |
| `beta`        | levels of training at quantiles of Beta(0.6, 0.6) (arXiv:2407.12173, as in ComfyUI)             |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.core.recipe import Sampler, Schedule
from sosie.diffusion.flow.samplers import SAMPLERS, TRAINED

_BETA = 0.6
_NEARLY_ALL = 1 - 1e-4
"""Where samplers begin that need the logarithm of the signal's share, which is 0 at level 1 (ComfyUI)."""

Levels = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FlowLevels:
    """Noise levels of one picture, float32 [k + 1], descending, the last 0, and the shift that laid them.

    k is the number of steps that are taken.
    """

    sigmas: Levels
    shift: float

    @property
    def steps(self) -> int:
        """How many steps they are."""
        return len(self.sigmas) - 1

    @property
    def timesteps(self) -> Levels:
        """What the model is given at each step, 1000 to 0; float32 [k]."""
        return self.sigmas[:-1] * np.float32(TRAINED)

    @property
    def first_with_signal(self) -> float:
        """The first level, or the one just below where that is 1 and the picture has no share of it."""
        first = float(self.sigmas[0])
        return first if first < 1 else float(shifted(_NEARLY_ALL, self.shift))


def shifted(share: Any, shift: Any) -> Any:
    """s(u) of a share u of the schedule, 0 to 1, as a number or an array (Esser et al. 2024, eq. 23)."""
    return share if shift == 1 else shift * share / (1 + (shift - 1) * share)


def trained_levels(shift: float) -> Levels:
    """The levels of training, ascending, float32 [1000]."""
    return _shifted(np.arange(1, TRAINED + 1, dtype=np.float32) / np.float32(TRAINED), shift)


def flow_levels(sampler: Sampler, shift: float, denoise: float = 1.0) -> FlowLevels:
    """The noise levels that a sampler walks down; `complaint(sampler)` must be empty.

    `shift` is the model's own, for a sampler that asks for none. With `denoise` below 1 an image is drawn over:
    of the schedule's steps the last `steps` x `denoise` are taken, at least one, as diffusers counts them;
    ComfyUI's node takes the same ones when it is given that many steps and their share as its denoise.
    """
    used = sampler.shift or shift
    drops = SAMPLERS[sampler.name].drops_last_but_one
    sigmas = schedule_levels(sampler.schedule, sampler.steps + drops, used)
    if drops:
        sigmas = np.delete(sigmas, -2)
    taken = max(1, min(int(sampler.steps * denoise), sampler.steps))
    return FlowLevels(sigmas[-(taken + 1) :], used)


def schedule_levels(schedule: Schedule, steps: int, shift: float) -> Levels:
    """The levels of a schedule, float32 [steps + 1]; fewer where `beta` meets the same level twice."""
    trained = trained_levels(shift)
    if schedule == "simple":
        chosen = trained[-1 - (np.arange(steps) * (TRAINED / steps)).astype(int)]
    elif schedule == "beta":
        from scipy import stats

        beta: Any = stats.beta
        places = np.rint(beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), _BETA, _BETA) * (TRAINED - 1))
        chosen = trained[np.unique(places.astype(int))[::-1]]
    elif schedule == "model":
        chosen = _shifted(_even(1 / steps, steps), shift)
    else:
        more = schedule == "sgm_uniform"
        chosen = _shifted(_even(trained[0], steps + more)[:steps], shift)
    return np.append(chosen, np.float32(0))


def _shifted(share: Levels, shift: float) -> Levels:
    """`shifted` as ComfyUI rounds it: a Brownian path, rough at any scale, tells levels apart by their last digit."""
    return np.minimum(np.asarray(shifted(share, np.float32(shift)), dtype=np.float32), np.float32(1))


def _even(last: float | np.float32, count: int) -> Levels:
    """Equal steps from 1 to `last` as torch rounds them: the nearer end counts."""
    end, places = np.float32(last), np.arange(count)
    step = float((end - np.float32(1)) / np.float32(max(1, count - 1)))
    rising, falling = 1 + step * places, float(end) - step * places[::-1]
    return np.where(places < count // 2, rising, falling).astype(np.float32) if count > 1 else np.ones(1, np.float32)
