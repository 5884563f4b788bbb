"""FLUX.2 klein on diffusers: stock classes, one code path for folders, single files and small models."""

from __future__ import annotations

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.stage_rules import E001, E002, E003, E007, E011, E014, check_fp8, check_no_weights
from sosie.diffusion.flow.samplers import SAMPLERS, complaint
from sosie.families.contract.drawn import run_stage
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.contract.memory_modes import run_in_modes

KINDS = ("generate", "refine", "detail")

BLOCK = 16
"""Pixels on a side of a token."""


class Runner:
    """Runs the stages of klein models. Holds the weights of one model from its first image to `close`.

    `device` is `cpu` or `cuda`: fp32 on a CPU, bf16 on a GPU unless the stage says otherwise.
    """

    def __init__(self, device: str, settings: Settings) -> None:
        from sosie.families.flux2.diffusers.pipeline import Pipelines

        self._pipelines = Pipelines(device, settings)

    def run(self, given: StageInput) -> StageOutput:
        """Runs one stage; where the GPU's memory does not suffice, again in the next mode.

        Raises `BadModelError` if a part cannot be loaded, `EngineError` if it fails while it
        renders or no mode is left.
        """
        return run_in_modes(given, lambda one: run_stage(one, self._pipelines.draw, BLOCK), self._pipelines)

    def rest(self) -> None:
        """Frees the GPU and keeps the weights in main memory."""
        self._pipelines.rest()

    def close(self) -> None:
        """Frees the weights."""
        self._pipelines.close()


def runner(device: str, settings: Settings) -> Runner:
    """Runs the stages of this family on `cpu` or `cuda`."""
    return Runner(device, settings)


def check(stage: Stage, plan: Plan) -> list[Finding]:
    """What would stop this stage, from the plan alone."""
    wrong: list[tuple[Rule, str]] = []
    if stage.kind not in KINDS:
        wrong.append((E001, f"FLUX.2 has no stage '{stage.kind}'; expected {', '.join(KINDS)}"))
    if unfit := complaint(stage.sampler, "FLUX.2", 1.0):
        wrong.append((E003 if stage.sampler.name in SAMPLERS else E002, unfit))
    if stage.precision == "fp16":
        wrong.append((E014, "FLUX.2 was made for bf16; in fp16 diffusers itself cuts what overflows"))
    if stage.clip_skip:
        wrong.append((E011, f"stage '{stage.kind}' has clip_skip = {stage.clip_skip}; FLUX.2 has no CLIP"))
    if stage.kind == "detail" and stage.detail.size % 64:
        wrong.append((E007, f"detail.size is {stage.detail.size}; expected a multiple of 64"))
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    findings = [rule.at(plan.recipe, message, hint) for rule, message in wrong]
    return [*findings, *check_fp8(stage, plan, "FLUX.2"), *check_no_weights(stage, plan, "FLUX.2")]
