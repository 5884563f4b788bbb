"""diffusers' schedulers, set to a sampler's schedule: the steps are diffusers' own, the noise levels those of `noise`.

Noise that a step adds comes from the pipeline's generator, so a seed gives one image; or it is drawn as `comfy_noise`
says, where the sampler asks for that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_dpmsolver_sde
from numpy.typing import NDArray
from torch import Generator, Tensor

from sosie.core.recipe import Sampler, Schedule
from sosie.diffusion.comfy_noise import ALONG_A_PATH, path_noise, start_noise, step_generator
from sosie.diffusion.noise import noise_levels
from sosie.diffusion.samplers import SAMPLERS

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

_NOISY = ("euler_a", "dpmpp_2m_sde", "lcm")
"""Samplers whose steps add noise, but for `dpmpp_sde`, which has a step of its own."""

_LEAST = 2.0**-24
"""What diffusers takes for the last abar of a model with zero terminal SNR, but for LCM."""

_library: Any = diffusers
_sde: Any = scheduling_dpmsolver_sde


class SchedulerConfig(Protocol):
    """What is read of a scheduler's configuration."""

    prediction_type: str
    timestep_spacing: str
    steps_offset: int

    def keys(self) -> Iterable[str]:
        """The names of all settings."""
        ...

    def __getitem__(self, name: str, /) -> object: ...


class Scheduler(Protocol):
    """A scheduler of diffusers. `sigmas` is missing in LCM's, `noise_sampler` in all but DPM-Solver SDE's."""

    config: SchedulerConfig
    order: int
    alphas_cumprod: Tensor
    sigmas: Tensor
    timesteps: Tensor
    num_inference_steps: int
    noise_sampler: Callable[[Tensor, Tensor], Tensor] | None
    step: Callable[..., Any]
    set_timesteps: Callable[..., None]
    add_noise: Callable[[Tensor, Tensor, Tensor], Tensor]


def scheduler_for(sampler: Sampler, config: Mapping[str, object], seed: int | None = None) -> Scheduler:
    """A scheduler of diffusers that runs `sampler`; `complaint(sampler)` must be empty.

    With a `seed` all noise is drawn as ComfyUI draws it from that seed, whatever the pipeline gives; what a picture
    starts from where there is none under it, `comfy_noise.start_noise`, is for the caller to give.

    `config` is the configuration of the scheduler that came with the model. The pipeline is
    called with `num_inference_steps` alone (no `timesteps`, no `sigmas`); a stage that works on
    an image adds `strength`. `len(scheduler.timesteps)` is the number of the model's calls, known
    once the pipeline has called `set_timesteps`.
    """
    choice = SAMPLERS[sampler.name]
    model = {name: config[name] for name in _OF_THE_MODEL if name in config}
    if choice.cls == "DPMSolverSDEScheduler" and model.pop("rescale_betas_zero_snr", False):
        model["trained_betas"] = _zero_terminal_betas(model)
    scheduler: Scheduler = getattr(_library, choice.cls)(**model, **choice.settings)
    if (sampler.name, sampler.schedule) != ("lcm", "model"):  # those are the teacher's own timesteps
        scheduler.set_timesteps = functools.partial(
            _set_timesteps, scheduler, scheduler.set_timesteps, sampler.schedule
        )
    if choice.cls == "DPMSolverSDEScheduler":
        scheduler.step = _StepOfSde(scheduler, seed)
    elif seed is not None and sampler.name in _NOISY:
        scheduler.step = _StepAsComfy(scheduler, sampler.name in ALONG_A_PATH, seed)
    if seed is not None:
        scheduler.add_noise = functools.partial(_noised_as_comfy, scheduler.add_noise, seed)
    return scheduler


def _set_timesteps(
    scheduler: Scheduler,
    stock: Callable[..., None],
    schedule: Schedule,
    num_inference_steps: int,
    device: torch.device | str | None = None,
) -> None:
    """Stands in for the scheduler's `set_timesteps`: lets it clear its state, then lays our levels."""
    is_lcm = not hasattr(scheduler, "sigmas")
    stock(1 if is_lcm else num_inference_steps, device=device)  # LCM's own check refuses more than 50 steps
    kept = scheduler.alphas_cumprod.cpu().clamp(min=_LEAST)
    trained = (((1 - kept) / kept) ** 0.5).double().numpy()  # rounded to float32 as diffusers rounds them
    config = scheduler.config
    sigmas, timesteps = noise_levels(
        schedule, trained, num_inference_steps, config.timestep_spacing, config.steps_offset
    )
    if is_lcm:
        scheduler.timesteps = torch.as_tensor(np.rint(timesteps).astype(np.int64)).to(device)
        scheduler.num_inference_steps = len(timesteps)
        return
    if scheduler.order == 2:
        sigmas, timesteps = _with_middles(sigmas, timesteps, trained)
    scheduler.sigmas = torch.as_tensor(sigmas.astype(np.float32))
    scheduler.timesteps = torch.as_tensor(timesteps.astype(np.float32)).to(device)


def _with_middles(
    sigmas: NDArray[np.float64], timesteps: NDArray[np.float64], trained: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `DPMSolverSDEScheduler` keeps them: each inner level twice, and a timestep half-way in log sigma."""
    middles = np.sqrt(sigmas[:-2] * sigmas[1:-1])
    both = np.empty(2 * len(timesteps) - 1)
    both[0::2] = timesteps
    both[1::2] = np.interp(np.log(middles), np.log(trained), np.arange(len(trained), dtype=np.float64))
    return np.repeat(sigmas, 2)[1:-1], both


def _zero_terminal_betas(model: Mapping[str, object]) -> list[float]:
    """The betas of a model with zero terminal SNR, which `DPMSolverSDEScheduler` cannot rescale itself."""
    euler: Scheduler = _library.EulerDiscreteScheduler(**model, rescale_betas_zero_snr=True)
    kept = euler.alphas_cumprod.double().numpy()
    return [float(beta) for beta in 1 - kept / np.append(1.0, kept[:-1])]


class _StepOfSde:
    """Stands in for the `step` of `DPMSolverSDEScheduler`, which takes no generator.

    The Brownian path is drawn on the CPU from the generator's next number, so every device gets
    the same noise; with a seed of ComfyUI it is that of the seed. The step runs in float32.
    """

    def __init__(self, scheduler: Scheduler, seed: int | None) -> None:
        self._scheduler = scheduler
        self._seed = seed
        self._stock = scheduler.step

    def __call__(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: Generator | Sequence[Generator] | None = None,
        return_dict: bool = True,
    ) -> Any:
        if self._scheduler.noise_sampler is None:  # `set_timesteps` drops the path of the image before
            self._scheduler.noise_sampler = self._path(timestep, sample, generator)
        result = self._stock(model_output.float(), timestep, sample.float())
        result.prev_sample = result.prev_sample.to(sample.dtype)
        return result if return_dict else result.to_tuple()

    def _path(
        self, timestep: Tensor, sample: Tensor, generator: Generator | Sequence[Generator] | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        sigmas = self._scheduler.sigmas
        if self._seed is None:
            return _brownian_path(sigmas, sample, generator)
        path = path_noise(self._seed, sample.shape, sigmas[_step_at(self._scheduler, timestep) :])
        return lambda sigma, after: path(sigma, after).to(sample.device)


class _StepAsComfy:
    """Stands in for the `step` of a scheduler that adds noise, and draws it as ComfyUI does."""

    def __init__(self, scheduler: Scheduler, along_a_path: bool, seed: int) -> None:
        self._scheduler = scheduler
        self._stock = scheduler.step
        self._along_a_path = along_a_path
        self._seed = seed
        self._source: Any = None

    def __call__(
        self,
        model_output: Tensor,
        timestep: Tensor,
        sample: Tensor,
        generator: Generator | Sequence[Generator] | None = None,
        return_dict: bool = True,
    ) -> Any:
        del generator
        step = _step_at(self._scheduler, timestep)
        if not self._along_a_path:
            self._source = self._source or step_generator(self._seed, sample.device)
            return self._stock(model_output, timestep, sample, generator=self._source, return_dict=return_dict)
        sigma, after = self._scheduler.sigmas[step : step + 2]
        self._source = self._source or path_noise(self._seed, sample.shape, self._scheduler.sigmas[step:])
        noise = self._source(sigma, after) if after > 0 else torch.zeros(sample.shape)
        return self._stock(model_output, timestep, sample, variance_noise=noise, return_dict=return_dict)


def _step_at(scheduler: Scheduler, timestep: Tensor) -> int:
    """The number of the step that starts at `timestep`. Drawing over an image begins at one of the last."""
    return int((scheduler.timesteps == timestep).nonzero()[0])


def _noised_as_comfy(
    stock: Callable[[Tensor, Tensor, Tensor], Tensor], seed: int, original: Tensor, noise: Tensor, timesteps: Tensor
) -> Tensor:
    """Stands in for a scheduler's `add_noise`, which is handed noise by the pipeline."""
    drawn = start_noise(seed, original.shape).to(noise.device, noise.dtype)
    return stock(original, drawn, timesteps)


def _brownian_path(
    sigmas: Tensor, sample: Tensor, generator: Generator | Sequence[Generator] | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (sigma, next sigma) -> noise of unit variance in the shape of `sample`.

    `generator` is one for all images, or a list with one an image.
    """
    several = isinstance(generator, Sequence)
    seed = [_next_number(each) for each in generator] if several else _next_number(generator)
    blank = torch.empty(sample.shape, dtype=torch.float32)
    levels = sigmas[sigmas > 0]
    # A little wider than the levels: the path rounds its ends, and would warn of a step beyond them.
    path: Any = _sde.BrownianTreeNoiseSampler(blank, 0.99 * float(levels.min()), 1.01 * float(levels.max()), seed)

    def noise(sigma: Tensor, next_sigma: Tensor) -> Tensor:
        return path(sigma, next_sigma).to(sample.device)

    return noise


def _next_number(generator: Generator | None) -> int:
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(0, 2**63 - 1, (1,), generator=generator, device=device).item())
