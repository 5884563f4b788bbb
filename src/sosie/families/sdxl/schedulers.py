"""diffusers' schedulers, set to a sampler's schedule.

The steps are diffusers' own. The noise levels are laid here, by one formula a schedule for every
sampler: diffusers' classes differ in which range they stretch `karras` over, and have no
`sgm_uniform`, no `simple` and another `beta`. A noise level is sigma = sqrt((1 - abar) / abar).

| schedule      | source                                                                          |
|---------------|---------------------------------------------------------------------------------|
| `model`       | Lin et al. 2023 (arXiv:2305.08891), table 2, by the model's own `timestep_spacing` |
| `karras`      | Karras et al. 2022 (arXiv:2206.00364), eq. 5, rho 7, over all trained levels     |
| `exponential` | equal steps of log sigma over all trained levels (k-diffusion)                   |
| `sgm_uniform` | equal timesteps from the last to the first, without the first (generative-models) |
| `simple`      | every n-th trained level from the last (ComfyUI)                                 |
| `beta`        | quantiles of Beta(0.6, 0.6) over the timesteps (arXiv:2407.12173, as in ComfyUI)  |

Noise that a step adds comes from the pipeline's generator, so a seed gives one image.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sosie.core.recipe import Sampler, Schedule
from sosie.families.sdxl.samplers import SAMPLERS

_OF_THE_MODEL = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "timestep_spacing",
    "steps_offset",
    "rescale_betas_zero_snr",
)
"""Settings that belong to the weights; all others of a scheduler's configuration belong to the sampler."""

_LEAST = 2.0**-24
"""What diffusers takes for the last abar of a model with zero terminal SNR, but for LCM."""

_BETA = 0.6
_RHO = 7.0


def scheduler_for(sampler: Sampler, config: Mapping[str, Any]) -> Any:
    """A scheduler of diffusers that runs `sampler`; `complaint(sampler)` must be empty.

    `config` is the configuration of the scheduler that came with the model. The pipeline is
    called with `num_inference_steps` alone (no `timesteps`, no `sigmas`); a stage that works on
    an image adds `strength`. `len(scheduler.timesteps)` is the number of the model's calls, known
    once the pipeline has called `set_timesteps`.
    """
    diffusers: Any = importlib.import_module("diffusers")
    choice = SAMPLERS[sampler.name]
    model = {name: config[name] for name in _OF_THE_MODEL if name in config}
    if choice.cls == "DPMSolverSDEScheduler" and model.pop("rescale_betas_zero_snr", False):
        model["trained_betas"] = _zero_terminal_betas(diffusers, model)
    scheduler: Any = getattr(diffusers, choice.cls)(**model, **choice.settings)
    if (sampler.name, sampler.schedule) != ("lcm", "model"):  # those are the teacher's own timesteps
        scheduler.set_timesteps = functools.partial(
            _set_timesteps, scheduler, scheduler.set_timesteps, sampler.schedule
        )
    if choice.cls == "DPMSolverSDEScheduler":
        scheduler.step = _StepOfSde(scheduler)
    return scheduler


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
    elif schedule == "sgm_uniform":
        timesteps = np.linspace(count - 1, 0, steps + 1)[:-1]
        sigmas = np.exp(np.interp(timesteps, whole, np.log(trained)))
    else:
        if schedule == "simple":
            timesteps = count - 1 - np.floor(np.arange(steps) * (count / steps))
        elif schedule == "beta":
            stats: Any = importlib.import_module("scipy.stats")
            shares = stats.beta.ppf(1 - np.linspace(0, 1, steps, endpoint=False), _BETA, _BETA)
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


def _set_timesteps(
    scheduler: Any, stock: Callable[..., None], schedule: Schedule, num_inference_steps: int, device: Any = None
) -> None:
    """Stands in for the scheduler's `set_timesteps`: lets it clear its state, then lays our levels."""
    torch: Any = importlib.import_module("torch")
    is_lcm = not hasattr(scheduler, "sigmas")
    stock(1 if is_lcm else num_inference_steps, device=device)  # LCM's own check refuses more than 50 steps
    kept = scheduler.alphas_cumprod.cpu().clamp(min=_LEAST)
    trained = (((1 - kept) / kept) ** 0.5).double().numpy()  # rounded to float32 as diffusers rounds them
    config = scheduler.config
    sigmas, timesteps = noise_levels(
        schedule, trained, num_inference_steps, config.timestep_spacing, config.steps_offset
    )
    if is_lcm:
        scheduler.timesteps = torch.from_numpy(np.rint(timesteps).astype(np.int64)).to(device)
        scheduler.num_inference_steps = len(timesteps)
        return
    if scheduler.order == 2:
        sigmas, timesteps = _with_middles(sigmas, timesteps, trained)
    scheduler.sigmas = torch.from_numpy(sigmas.astype(np.float32))
    scheduler.timesteps = torch.from_numpy(timesteps.astype(np.float32)).to(device)


def _with_middles(
    sigmas: NDArray[np.float64], timesteps: NDArray[np.float64], trained: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `DPMSolverSDEScheduler` keeps them: each inner level twice, and a timestep half-way in log sigma."""
    middles = np.sqrt(sigmas[:-2] * sigmas[1:-1])
    both = np.empty(2 * len(timesteps) - 1)
    both[0::2] = timesteps
    both[1::2] = np.interp(np.log(middles), np.log(trained), np.arange(len(trained), dtype=np.float64))
    return np.repeat(sigmas, 2)[1:-1], both


def _zero_terminal_betas(diffusers: Any, model: Mapping[str, Any]) -> list[float]:
    """The betas of a model with zero terminal SNR, which `DPMSolverSDEScheduler` cannot rescale itself."""
    euler: Any = diffusers.EulerDiscreteScheduler(**model, rescale_betas_zero_snr=True)
    kept = euler.alphas_cumprod.double().numpy()
    return [float(beta) for beta in 1 - kept / np.append(1.0, kept[:-1])]


class _StepOfSde:
    """Stands in for the `step` of `DPMSolverSDEScheduler`, which takes no generator.

    The Brownian path is drawn on the CPU from the generator's next number, so every device gets
    the same noise. The step runs in float32.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._stock: Callable[..., Any] = scheduler.step

    def __call__(
        self, model_output: Any, timestep: Any, sample: Any, generator: Any = None, return_dict: bool = True
    ) -> Any:
        if self._scheduler.noise_sampler is None:  # `set_timesteps` drops the path of the image before
            self._scheduler.noise_sampler = _brownian_path(self._scheduler.sigmas, sample, generator)
        result = self._stock(model_output.float(), timestep, sample.float())
        result.prev_sample = result.prev_sample.to(sample.dtype)
        return result if return_dict else result.to_tuple()


def _brownian_path(sigmas: Any, sample: Any, generator: Any) -> Callable[[Any, Any], Any]:
    """A function (sigma, next sigma) -> noise of unit variance in the shape of `sample`.

    `generator` is one for all images, or a list with one an image.
    """
    torch: Any = importlib.import_module("torch")
    sde: Any = importlib.import_module("diffusers.schedulers.scheduling_dpmsolver_sde")
    seed: int | list[int]
    if isinstance(generator, list):
        seed = [_next_number(torch, each) for each in cast("list[Any]", generator)]
    else:
        seed = _next_number(torch, generator)
    blank = torch.empty(sample.shape, dtype=torch.float32)
    levels = sigmas[sigmas > 0]
    # A little wider than the levels: the path rounds its ends, and would warn of a step beyond them.
    path: Any = sde.BrownianTreeNoiseSampler(blank, 0.99 * float(levels.min()), 1.01 * float(levels.max()), seed)

    def noise(sigma: Any, next_sigma: Any) -> Any:
        return path(sigma, next_sigma).to(sample.device)

    return noise


def _next_number(torch: Any, generator: Any) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(0, 2**63 - 1, (1,), generator=generator, device=device).item())
