"""Samplers by the names the field uses, as settings of diffusers' schedulers.

Sources: Karras et al. 2022 (`euler`, `euler_a` after k-diffusion, the `karras` schedule),
Lu et al. 2022 (`dpmpp_2m`, `dpmpp_2m_sde`), Song et al. 2020 (`ddim`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SchedulerChoice:
    """A scheduler class of diffusers and what it is built with beside the model's own settings."""

    cls: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    takes_karras: bool = True


SAMPLERS: Mapping[str, SchedulerChoice] = {
    "euler": SchedulerChoice("EulerDiscreteScheduler"),
    "euler_a": SchedulerChoice("EulerAncestralDiscreteScheduler", takes_karras=False),
    "dpmpp_2m": SchedulerChoice("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_sde": SchedulerChoice("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "ddim": SchedulerChoice("DDIMScheduler", takes_karras=False),
}
