"""Samplers by the names the field uses, and the schedules that each of them takes.

| sampler        | update                                      | source                                |
|----------------|---------------------------------------------|---------------------------------------|
| `euler`        | Euler's method                              | Karras et al. 2022, algorithm 1       |
| `euler_a`      | Euler, then new noise                       | k-diffusion, `sample_euler_ancestral` |
| `ddim`         | first-order DPM-Solver++, which is DDIM     | Song et al. 2020, eq. 12 with eta 0   |
| `dpmpp_2m`     | DPM-Solver++(2M)                            | Lu et al. 2022, algorithm 2           |
| `dpmpp_2m_sde` | SDE-DPM-Solver++(2M)                        | Lu et al. 2022, section 5             |
| `dpmpp_sde`    | second-order SDE solver of single steps     | k-diffusion, `sample_dpmpp_sde`       |
| `uni_pc`       | UniPC-2 with B(h) = e^h - 1, for guidance   | Zhao et al. 2023                      |
| `lcm`          | consistency function, then new noise        | Luo et al. 2023, algorithm 3          |

`dpmpp_sde` asks the model twice a step (2 steps - 1 times in all), the others once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from sosie.core.errors import nearest
from sosie.core.recipe import Sampler, Schedule

TRAINING_STEPS = 1000
"""Noise levels that models were trained on."""

LCM_STEPS = 50
"""Timesteps of the teacher that a latent consistency model was distilled on."""

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class SchedulerChoice:
    """A scheduler class of diffusers, what it is built with beside the model's own settings, its schedules."""

    cls: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    schedules: tuple[Schedule, ...] = SCHEDULES


SAMPLERS: Mapping[str, SchedulerChoice] = {
    "euler": SchedulerChoice("EulerDiscreteScheduler"),
    "euler_a": SchedulerChoice("EulerAncestralDiscreteScheduler"),
    # Not DDIMScheduler: where 1000 / steps is no integer, its steps do not end at its own timesteps.
    "ddim": SchedulerChoice("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 1}),
    "dpmpp_2m": SchedulerChoice("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_sde": SchedulerChoice("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    # Not DPMSolverSinglestepScheduler: its two noises of a step are independent, where k-diffusion's lie on one path.
    "dpmpp_sde": SchedulerChoice("DPMSolverSDEScheduler"),
    "uni_pc": SchedulerChoice("UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2"}),
    "lcm": SchedulerChoice("LCMScheduler", schedules=("model", "sgm_uniform", "simple", "beta")),
}


def complaint(sampler: Sampler, title: str) -> str:
    """What is wrong with the sampler for a model that predicts noise or v, as one sentence; empty if nothing is.

    `title` is the family's.
    """
    choice = SAMPLERS.get(sampler.name)
    if choice is None:
        return f"sampler '{sampler.name}' is not known{nearest(sampler.name, SAMPLERS)}"
    if sampler.schedule not in choice.schedules:
        expected = ", ".join(f"'{name}'" for name in choice.schedules)
        reason = (
            "it jumps between whole training timesteps after the first"
            if sampler.name == "lcm"
            else "it has none of that name"
        )
        return f"sampler '{sampler.name}' does not take schedule '{sampler.schedule}': {reason}; expected {expected}"
    most = LCM_STEPS if (sampler.name, sampler.schedule) == ("lcm", "model") else TRAINING_STEPS
    if not 1 <= sampler.steps <= most:
        return (
            f"sampler '{sampler.name}' cannot take {sampler.steps} steps on schedule '{sampler.schedule}'; "
            f"expected 1 to {most}"
        )
    if sampler.shift:
        return f"{title} has no timestep shift, but the sampler asks for {sampler.shift:g}; expected shift = 0"
    return ""
