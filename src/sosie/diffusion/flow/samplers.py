"""Samplers of flow models by the names the field uses, and the schedules that they take. Without torch.

| sampler         | update                                                  | order | asks the model  |
|-----------------|---------------------------------------------------------|-------|-----------------|
| `euler`         | Euler's method (Karras et al. 2022, algorithm 1)        | 1     | steps           |
| `euler_a`       | Euler, then new noise; `euler_ancestral` is the same    | -     | steps           |
| `heun`          | Heun's method (Karras et al. 2022, algorithm 1)         | 2     | 2 steps - 1     |
| `dpmpp_2m`      | DPM-Solver++(2M) (Lu et al. 2022, algorithm 2)          | 2     | steps           |
| `dpmpp_2m_sde`  | SDE-DPM-Solver++(2M) (Lu et al. 2022, section 5)        | -     | steps           |
| `res_multistep` | exponential multistep of order 2 (arXiv:2308.02157)     | 2     | steps           |
| `uni_pc`        | UniPC-3 with B(h) = e^h - 1 (Zhao et al. 2023)          | 2     | steps           |

`uni_pc` is what ComfyUI calls `uni_pc_bh2`; as there, it ends at noise level 0.001, its schedule is laid for one step
more, of which the last but one is left out, and its first and last steps are of lower order: order 2 in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sosie.core.errors import nearest
from sosie.core.recipe import Sampler, Schedule

TRAINED = 1000
"""Noise levels that flow models were trained on: u = 1/1000 .. 1, shifted."""

MOST_STEPS = 1000

SCHEDULES: tuple[Schedule, ...] = ("model", "simple", "normal", "sgm_uniform", "beta")

_LATE = "it takes half of its steps below noise level 0.1, where a picture is done"
_NOT_FOR_FLOW: Mapping[str, str] = MappingProxyType({"karras": _LATE, "exponential": _LATE})


@dataclass(frozen=True)
class FlowSampler:
    """What is known of a sampler: whether it adds noise, and whether its schedule leaves out the last but one level."""

    noisy: bool = False
    drops_last_but_one: bool = False


SAMPLERS: Mapping[str, FlowSampler] = MappingProxyType(
    {
        "euler": FlowSampler(),
        "euler_a": FlowSampler(noisy=True),
        "euler_ancestral": FlowSampler(noisy=True),
        "heun": FlowSampler(),
        "dpmpp_2m": FlowSampler(),
        "dpmpp_2m_sde": FlowSampler(noisy=True),
        "res_multistep": FlowSampler(),
        "uni_pc": FlowSampler(drops_last_but_one=True),
    }
)


def evaluations(name: str, steps: int) -> int:
    """How often a sampler asks the model (with guidance: the model and its negative) in that many steps."""
    return 2 * steps - 1 if name == "heun" else steps


def complaint(sampler: Sampler, title: str, shift: float) -> str:
    """What is wrong with the sampler for a flow model, as one sentence; empty if nothing is.

    `title` is the family's, `shift` the one that its models were trained with, or 0 where they say none.
    """
    if sampler.name not in SAMPLERS:
        return f"{title} has no sampler '{sampler.name}'{nearest(sampler.name, SAMPLERS)}"
    if sampler.schedule not in SCHEDULES:
        expected = ", ".join(f"'{name}'" for name in SCHEDULES)
        reason = _NOT_FOR_FLOW.get(sampler.schedule, "it has none of that name")
        return f"{title} does not take schedule '{sampler.schedule}': {reason}; expected {expected}"
    if not 1 <= sampler.steps <= MOST_STEPS:
        return f"sampler '{sampler.name}' cannot take {sampler.steps} steps; expected 1 to {MOST_STEPS}"
    if not 0 < sampler.denoise <= 1:
        return f"denoise is {sampler.denoise:g}; expected more than 0, to 1"
    if sampler.shift < 0 or not (sampler.shift or shift):
        return (
            f"{title} needs a timestep shift, and the sampler asks for {sampler.shift:g}; expected shift = 3, or near"
        )
    return ""
