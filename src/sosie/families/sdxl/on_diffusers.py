"""SDXL on diffusers: stock pipelines, stock loaders, one code path for every SDXL model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import EngineError
from sosie.core.finding import Rule
from sosie.core.stage_rules import E001, E002, E003, E006, E007, check_fp8, check_weights
from sosie.diffusion.canvas import Canvas
from sosie.diffusion.samplers import SAMPLERS, complaint
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.contract.memory_modes import run_in_modes

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.diffusion.face_pass import Square

E026 = Rule("SOS-E026", "warning", "The VAE was used again in fp32")

KINDS = ("generate", "refine", "detail")


class Runner:
    """Runs the stages of SDXL models. Holds the weights of one model from its first image to `close`.

    `device` is `cpu` or `cuda`: fp32 on a CPU, bf16 on a GPU unless the stage says otherwise.
    """

    def __init__(self, device: str, settings: Settings) -> None:
        from sosie.families.sdxl.diffusers.pipeline import Pipelines

        self._pipelines = Pipelines(device, settings)

    def run(self, given: StageInput) -> StageOutput:
        """Runs one stage; where the GPU's memory does not suffice, again in the next mode.

        Raises `BadModelError` if a part cannot be loaded, `EngineError` if it fails while it
        renders or no mode is left.
        """
        return run_in_modes(given, self._stage, self._pipelines)

    def rest(self) -> None:
        """Frees the GPU and keeps the weights in main memory."""
        self._pipelines.rest()

    def close(self) -> None:
        """Frees the weights."""
        self._pipelines.close()

    def _stage(self, given: StageInput) -> StageOutput:
        if given.stage.kind == "detail":
            from sosie.diffusion.face_pass import run_face_pass
            from sosie.families.contract.face_pass import face_pass_of, output_of

            return output_of(run_face_pass(face_pass_of(given), lambda square: self._draw_square(given, square)))
        if given.stage.kind == "refine":
            if given.source is None:
                raise EngineError(f"plan {given.plan.id[:12]}: stage 'refine' works on an image; there is none")
            width, height = (side - side % 8 for side in given.source.size)
            under = given.source.crop((0, 0, width, height))
            drawn, findings = self._draw(given, Canvas(width, height, under))
            image = given.source.copy()
            image.paste(drawn, (0, 0))
            return StageOutput(image, findings)
        image, findings = self._draw(given, Canvas(given.plan.width, given.plan.height))
        return StageOutput(image, findings)

    def _draw_square(self, given: StageInput, square: Square) -> Image:
        from PIL import Image

        from sosie.families.contract.face_pass import with_denoise_of

        size, under = square.crop.size, Image.fromarray(square.under)
        given = with_denoise_of(given, square)
        image, _ = self._draw(given, Canvas(size, size, under, square.change, square.face))
        return image

    def _draw(self, given: StageInput, canvas: Canvas) -> tuple[Image, tuple[Finding, ...]]:
        from torch import no_grad

        from sosie.diffusion.vae import decode_latents, to_image

        with no_grad():
            latents = self._pipelines.denoise(given, canvas)
            pixels, again = decode_latents(self._pipelines.vae, latents)
        return to_image(pixels), (_decoded_again(given.plan),) if again else ()


def runner(device: str, settings: Settings) -> Runner:
    """Runs the stages of this family on `cpu` or `cuda`."""
    return Runner(device, settings)


def check(stage: Stage, plan: Plan) -> list[Finding]:
    """What would stop this stage, from the plan alone."""
    wrong: list[tuple[Rule, str]] = []
    if stage.kind not in KINDS:
        wrong.append((E001, f"SDXL has no stage '{stage.kind}'; expected {', '.join(KINDS)}"))
    if unfit := complaint(stage.sampler, "SDXL"):
        wrong.append((E003 if stage.sampler.name in SAMPLERS else E002, unfit))
    if stage.kind == "generate" and any(guide.keypoints for guide in stage.guides):
        wrong.append((E006, "stage 'generate' has a guide with key points, but no face yet to take them from"))
    if stage.kind == "detail" and stage.detail.size % 64:
        wrong.append((E007, f"detail.size is {stage.detail.size}; expected a multiple of 64"))
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    findings = [rule.at(plan.recipe, message, hint) for rule, message in wrong]
    return [*findings, *check_fp8(stage, plan, "SDXL"), *check_weights(stage, plan)]


def _decoded_again(plan: Plan) -> Finding:
    message = "the VAE gave NaN in its own precision; the picture was decoded again in fp32"
    return E026.at(plan.recipe, message, 'set precision = "bf16" or use a VAE that is safe in fp16')
