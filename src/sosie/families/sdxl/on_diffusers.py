"""SDXL on diffusers: stock pipelines, stock loaders, one code path for every SDXL model.

The only module of this family that imports torch.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core import Finding, Guide, Plan, Stage
from sosie.core.errors import BadModelError, EngineError, nearest
from sosie.families.sdxl.samplers import SAMPLERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Identity = Callable[[Guide, Plan], NDArray[np.float32]]


class Runner:
    """Runs the stages of one SDXL model. Holds the weights from the first image to `close`.

    `device` is `cpu` or `cuda`: fp32 on a CPU, bf16 on a GPU (SDXL's VAE overflows in fp16).
    `identity` gives a guide's face embedding, float32 [d], L2 norm 1.
    """

    def __init__(self, device: str, identity: Identity) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._device = device
        self._dtype: Any = self._torch.float32 if device == "cpu" else self._torch.bfloat16
        self._identity = identity
        self._pipeline: Any = None
        self._loaded: tuple[Path, tuple[Path, ...]] | None = None

    def run(self, stage: Stage, plan: Plan, paths: Mapping[str, Path], on_step: Callable[[int, int], None]) -> Image:
        """The image of a `generate` stage; `on_step(done, steps)` is called after each step.

        `paths` maps the plan's asset names to local files. Raises `BadModelError` if a part
        cannot be loaded, `EngineError` if it fails while it renders.
        """
        pipeline = self._load(paths[stage.model], tuple(paths[guide.weights] for guide in stage.guides))
        choice = SAMPLERS[stage.sampler.name]
        pipeline.scheduler = self._scheduler(pipeline.scheduler.config, choice.cls, self._settings(stage))
        guided: dict[str, Any] = {}
        if stage.guides:
            pipeline.set_ip_adapter_scale([guide.scale for guide in stage.guides])
            guided["ip_adapter_image_embeds"] = [self._embeds(guide, plan, stage.sampler.cfg) for guide in stage.guides]

        def after_step(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
            on_step(step + 1, stage.sampler.steps)
            return values

        try:
            result = pipeline(
                prompt=plan.prompt,
                negative_prompt=plan.negative_prompt or None,
                width=plan.width,
                height=plan.height,
                num_inference_steps=stage.sampler.steps,
                guidance_scale=stage.sampler.cfg,
                generator=self._torch.Generator("cpu").manual_seed(plan.seed),
                callback_on_step_end=after_step,
                **guided,
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"plan {plan.id[:12]} failed in stage '{stage.kind}': {error}") from error
        return result.images[0]

    def close(self) -> None:
        """Frees the weights."""
        self._pipeline = self._loaded = None
        if self._device != "cpu":
            self._torch.cuda.empty_cache()

    def _settings(self, stage: Stage) -> dict[str, Any]:
        choice = SAMPLERS[stage.sampler.name]
        karras = {"use_karras_sigmas": stage.sampler.schedule == "karras"} if choice.takes_karras else {}
        return {**choice.settings, **karras}

    def _scheduler(self, config: Any, cls: str, settings: Mapping[str, Any]) -> Any:
        diffusers: Any = importlib.import_module("diffusers")
        return getattr(diffusers, cls).from_config(config, **settings)

    def _embeds(self, guide: Guide, plan: Plan, cfg: float) -> Any:
        """[2, 1, d] with zeros for the unconditional half, or [1, 1, d] without guidance."""
        embedding = self._torch.from_numpy(self._identity(guide, plan)).to(self._device, self._dtype)[None, None]
        return self._torch.cat([self._torch.zeros_like(embedding), embedding]) if cfg > 1 else embedding

    def _load(self, model: Path, adapters: tuple[Path, ...]) -> Any:
        if self._loaded == (model, adapters):
            return self._pipeline
        self.close()
        with _quiet_diffusers() as diffusers:
            try:
                pipeline: Any = diffusers.StableDiffusionXLPipeline.from_pretrained(
                    model, dtype=self._dtype, local_files_only=True, add_watermarker=False
                )
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                raise BadModelError(
                    f"{model} could not be loaded as SDXL: {error}", f"sosie model show {model}"
                ) from error
            try:
                if adapters:
                    pipeline.load_ip_adapter(
                        [str(path.parent) for path in adapters],
                        subfolder=["" for _ in adapters],
                        weight_name=[path.name for path in adapters],
                        image_encoder_folder=None,
                        local_files_only=True,
                    )
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                names = ", ".join(path.name for path in adapters)
                raise BadModelError(f"the identity guides ({names}) do not fit {model.name}: {error}") from error
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(self._device)
        self._loaded = (model, adapters)
        return self._pipeline


def check(stage: Stage, plan: Plan) -> list[Finding]:
    """What would stop this stage, from the plan alone."""
    findings: list[Finding] = []
    if stage.kind != "generate":
        message = f"stage '{stage.kind}' cannot run on diffusers in this version; expected 'generate'"
        findings.append(Finding("SOS-E001", "error", plan.recipe, message, f"sosie recipe show {plan.recipe}"))
    if stage.sampler.name not in SAMPLERS:
        message = f"sampler '{stage.sampler.name}' is not known{nearest(stage.sampler.name, SAMPLERS)}"
        findings.append(Finding("SOS-E002", "error", plan.recipe, message, f"sosie recipe copy {plan.recipe}"))
    elif stage.sampler.schedule == "karras" and not SAMPLERS[stage.sampler.name].takes_karras:
        message = f"sampler '{stage.sampler.name}' has no 'karras' schedule; expected schedule = \"model\""
        findings.append(Finding("SOS-E003", "error", plan.recipe, message, f"sosie recipe copy {plan.recipe}"))
    return findings


@contextlib.contextmanager
def _quiet_diffusers() -> Generator[Any]:
    """Gives diffusers with its progress bars and warnings off while weights load."""
    diffusers: Any = importlib.import_module("diffusers")
    logging = importlib.import_module("diffusers.utils.logging")
    transformers_logging = importlib.import_module("transformers.utils.logging")
    before = logging.get_verbosity(), transformers_logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield diffusers
    finally:
        logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
