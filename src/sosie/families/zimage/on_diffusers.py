"""Z-Image on diffusers: stock classes, one code path for folders, single files and small models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.stage_rules import E001, E002, E003, E007, E011, E014, check_no_weights
from sosie.diffusion.canvas import Canvas
from sosie.diffusion.flow.samplers import SAMPLERS, complaint
from sosie.families.contract.drawn import run_stage
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.contract.memory_modes import run_in_modes
from sosie.families.zimage.partners import PARTNERS

if TYPE_CHECKING:
    from PIL.Image import Image


KINDS = ("generate", "refine", "detail")


class Runner:
    """Runs the stages of Z-Image models. Holds the weights of one model from its first image to `close`.

    `device` is `cpu` or `cuda`: fp32 on a CPU, bf16 on a GPU unless the stage says otherwise.
    """

    def __init__(self, device: str, settings: Settings) -> None:
        from sosie.families.zimage.diffusers.pipeline import Pipelines

        self._pipelines = Pipelines(device, settings)

    def run(self, given: StageInput) -> StageOutput:
        """Runs one stage; where the GPU's memory does not suffice, again in the next mode.

        Raises `BadModelError` if a part cannot be loaded, `EngineError` if it fails while it
        renders or no mode is left.
        """
        return run_in_modes(given, lambda one: run_stage(one, self._draw), self._pipelines)

    def rest(self) -> None:
        """Frees the GPU and keeps the weights in main memory."""
        self._pipelines.rest()

    def close(self) -> None:
        """Frees the weights."""
        self._pipelines.close()

    def _draw(self, given: StageInput, canvas: Canvas) -> Image:
        from torch import no_grad

        from sosie.diffusion.vae import decode_latents, to_image

        with no_grad():
            latents = self._pipelines.denoise(given, canvas)
            pixels, _ = decode_latents(self._pipelines.vae, latents)
        return to_image(pixels)


def runner(device: str, settings: Settings) -> Runner:
    """Runs the stages of this family on `cpu` or `cuda`."""
    return Runner(device, settings)


def check(stage: Stage, plan: Plan) -> list[Finding]:
    """What would stop this stage, from the plan alone."""
    wrong: list[tuple[Rule, str]] = []
    if stage.kind not in KINDS:
        wrong.append((E001, f"Z-Image has no stage '{stage.kind}'; expected {', '.join(KINDS)}"))
    if unfit := complaint(stage.sampler, "Z-Image", PARTNERS.shift):
        wrong.append((E003 if stage.sampler.name in SAMPLERS else E002, unfit))
    if stage.precision == "fp16":
        wrong.append((E014, "fp16 overflows in Z-Image; its activations reach 344,064"))
    if stage.clip_skip:
        wrong.append((E011, f"stage '{stage.kind}' has clip_skip = {stage.clip_skip}; Z-Image has no CLIP"))
    if stage.kind == "detail" and stage.detail.size % 64:
        wrong.append((E007, f"detail.size is {stage.detail.size}; expected a multiple of 64"))
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    findings = [rule.at(plan.recipe, message, hint) for rule, message in wrong]
    return [*findings, *check_no_weights(stage, plan, "Z-Image")]
