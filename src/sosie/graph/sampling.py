"""Samplers and schedules by ComfyUI's names.

Sosie's names are the field's; where ComfyUI calls the same thing otherwise, `SAMPLERS` says how. Every other
sampler of ComfyUI may be asked for by its own name. Facts of version 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sosie.core.errors import nearest
from sosie.core.recipe import Sampler

SAMPLERS: Mapping[str, str] = MappingProxyType({"euler_a": "euler_ancestral", "uni_pc": "uni_pc_bh2"})
"""Sosie's name -> ComfyUI's. Sosie's UniPC has B(h) = e^h - 1, which ComfyUI calls bh2."""

OWN = (
    *("euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0"),
    *("exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral"),
    *("dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde"),
    *("dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm"),
    *("lcm", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral"),
    *("res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde", "seeds_2"),
    *("seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc_bh2"),
)
"""ComfyUI's samplers by its own names; its `uni_pc` (B(h) = h) is left out, for Sosie's is the other one."""

MAX_STEPS = 10_000


def sampler_complaint(sampler: Sampler) -> str:
    """Why ComfyUI cannot sample so, as one sentence; empty if it can."""
    if sampler.name not in (*SAMPLERS, *OWN):
        return f"sampler '{sampler.name}' is not known to ComfyUI{nearest(sampler.name, (*SAMPLERS, *OWN))}"
    if not 1 <= sampler.steps <= MAX_STEPS:
        return f"ComfyUI cannot take {sampler.steps} steps; expected 1 to {MAX_STEPS:,}"
    if not 0 < sampler.denoise <= 1:
        return f"denoise is {sampler.denoise:g}; expected more than 0, to 1"
    return ""


def drawing(sampler: Sampler, seed: int, own: str, over: bool = False) -> dict[str, Any]:
    """The inputs of a sampling node: seed, steps, CFG, sampler, scheduler and denoise.

    `own` is the scheduler that stands for what the model was trained with. Drawing `over` an image takes the
    last `steps` x `denoise` of the steps, as diffusers does; ComfyUI's node is told how many these are, since
    it would otherwise take all of them within the same noise.
    """
    steps, denoise = sampler.steps, 1.0
    if over:
        steps = max(1, min(int(sampler.steps * sampler.denoise), sampler.steps))
        denoise = _share(steps, sampler.steps)
    return {
        "seed": seed,
        "steps": steps,
        "cfg": sampler.cfg,
        "sampler_name": SAMPLERS.get(sampler.name, sampler.name),
        "scheduler": own if sampler.schedule == "model" else sampler.schedule,
        "denoise": denoise,
    }


def _share(steps: int, of: int) -> float:
    """The denoise of which ComfyUI computes `int(steps / denoise)` = `of`, in as few digits as do."""
    for digits in range(2, 17):
        for share in (round(steps / of, digits), round(steps / of - 10.0**-digits, digits)):
            if 0 < share <= 1 and int(steps / share) == of:
                return share
    return steps / of
