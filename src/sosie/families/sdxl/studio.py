"""Where SDXL is drawn: one model with its LoRAs, guides, ControlNets and pipelines, ready between images.

Only `on_diffusers` imports this module (it imports torch).
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sosie.core import Finding
from sosie.core.errors import BadModelError
from sosie.core.recipe import Precision, Stage
from sosie.families.contract.draws import Settings, StageInput
from sosie.families.sdxl.acceleration import Accelerated, Levers, accelerate, why_not
from sosie.families.sdxl.controlnet import load_controlnet
from sosie.families.sdxl.decoding import encode_image
from sosie.families.sdxl.economy import Economy
from sosie.families.sdxl.guidance import Guides, Pose
from sosie.families.sdxl.loras import Loras, faceid_loras
from sosie.families.sdxl.memory import Mode
from sosie.families.sdxl.placement import place
from sosie.families.sdxl.prompts import PromptEmbeds, encode
from sosie.families.sdxl.schedulers import scheduler_for
from sosie.families.sdxl.single_file import load_single_file
from sosie.files.cache import cache_folder

if TYPE_CHECKING:
    from sosie.families.sdxl.canvas import Canvas

torch: Any = importlib.import_module("torch")
diffusers: Any = importlib.import_module("diffusers")

PIPELINES = {
    (False, False): "StableDiffusionXLPipeline",
    (False, True): "StableDiffusionXLControlNetPipeline",
    (True, False): "StableDiffusionXLImg2ImgPipeline",
    (True, True): "StableDiffusionXLControlNetImg2ImgPipeline",
}
"""By: works on a picture, has a ControlNet."""

TEXTS = 64
"""Prompts that are kept encoded, about 1 MB each; the oldest goes first."""

PRECISIONS: Mapping[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(eq=False)
class Model:
    """A loaded model and everything that hangs on its weights."""

    key: tuple[object, ...]
    base: Any
    guides: Guides
    loras: Loras
    schedule: Mapping[str, Any]
    nets: dict[Path, Any] = field(default_factory=dict[Path, Any])
    pipelines: dict[tuple[str, Path | None], Any] = field(default_factory=dict[tuple[str, Path | None], Any])
    texts: dict[tuple[str, str, int], PromptEmbeds] = field(default_factory=dict[tuple[str, str, int], PromptEmbeds])
    settled: tuple[object, ...] = ()
    accelerated: Accelerated | None = None

    def restore(self) -> None:
        """Takes away what was made fast: it holds on to layers that are about to change."""
        if self.accelerated is not None:
            self.accelerated.restore()
        self.accelerated, self.settled = None, ()


class Studio:
    """Holds one model at a time; another one, or another precision, takes its place."""

    def __init__(self, device: str, settings: Settings) -> None:
        self._device = device
        self._settings = settings
        self._economy = Economy(device, settings)
        self._model: Model | None = None

    @property
    def vae(self) -> Any:
        """The VAE of the model that was used last."""
        if self._model is None:
            raise BadModelError("no model is loaded, so there is no VAE")
        return self._model.base.vae

    def denoise(self, given: StageInput, canvas: Canvas) -> Any:
        """The latents [1, 4, h / 8, w / 8] of what the stage draws on the canvas."""
        stage = given.stage
        model = self._prepared(given)
        fed = next((guide.keypoints for guide in stage.guides if guide.keypoints), None)
        net = given.paths[fed.controlnet] if fed is not None and canvas.face is not None else None
        pipeline = self._pipeline(model, canvas.under is not None, net)
        pipeline.scheduler = scheduler_for(stage.sampler, model.schedule)
        texts = self._texts(model, given)
        generator = torch.Generator("cpu").manual_seed(given.seed)
        arguments: dict[str, Any] = {
            "prompt_embeds": texts.prompt_embeds,
            "negative_prompt_embeds": texts.negative_prompt_embeds,
            "pooled_prompt_embeds": texts.pooled,
            "negative_pooled_prompt_embeds": texts.negative_pooled,
            "num_inference_steps": stage.sampler.steps,
            "guidance_scale": stage.sampler.cfg,
            "generator": generator,
            "output_type": "latent",
        }
        if canvas.under is None:
            arguments |= {"width": canvas.width, "height": canvas.height}
            after = _reporting(given)
        else:
            latents = encode_image(model.base.vae, canvas.under).to(texts.prompt_embeds.dtype)
            arguments |= {"image": latents, "strength": stage.sampler.denoise}
            after = _reporting(given, _keeping(pipeline, latents, canvas, given.seed))
        pose = None if canvas.face is None else Pose(canvas.face.points, canvas.width, canvas.height)
        with model.guides.condition(pipeline, given, pose) as guided:
            return pipeline(**arguments, **guided, callback_on_step_end=after).images

    def said(self) -> tuple[Finding, ...]:
        """How the memory is used, once a change of it."""
        return self._economy.said()

    def retreat(self, given: StageInput, why: str) -> None:
        """Frees everything and takes the next cheaper memory mode; `EngineError` if there is none."""
        self._economy.retreat(given.stage, given.plan, why)
        self.close()

    def close(self) -> None:
        """Frees the weights."""
        self._model = None
        if self._device != "cpu":
            torch.cuda.empty_cache()

    def _prepared(self, given: StageInput) -> Model:
        """The stage's model with exactly the stage's LoRAs and guides in it, placed and ready."""
        stage, plan, paths = given.stage, given.plan, given.paths
        mode = self._economy.mode(plan)
        kin = tuple(other for other in plan.stages if (other.family, other.model) == (stage.family, stage.model))
        guides = tuple(guide for other in kin for guide in other.guides)
        uses = (*faceid_loras(stage.guides, paths), *stage.loras)
        model = self._loaded(stage, paths, mode, (guides, uses) if mode == "fp8" else ())
        if not model.guides.holds(guides, paths):
            model.restore()
            model.guides.load(guides, paths)
        if model.loras.set(uses, paths):
            model.texts.clear()
        for guide in guides:
            if guide.keypoints and (path := paths[guide.keypoints.controlnet]) not in model.nets:
                model.restore()
                model.nets[path] = load_controlnet(path, model.base.unet, model.base.unet.dtype)
        self._settle(model, mode)
        return model

    def _loaded(self, stage: Stage, paths: Mapping[str, Path], mode: Mode | None, fixed: tuple[object, ...]) -> Model:
        """The stage's model. `fixed` is what cannot be changed in it: weights in 8 bits take no other LoRA."""
        path, vae = paths[stage.model], paths.get(stage.vae)
        precision = stage.precision if stage.precision != "auto" else "fp32" if self._device == "cpu" else "bf16"
        key = (path, vae, precision, mode, fixed)
        if self._model is None or self._model.key != key:
            self.close()
            base = _load(path, vae, getattr(torch, PRECISIONS[precision]))
            self._model = Model(key, base, Guides(base), Loras(base), dict(base.scheduler.config))
        return self._model

    def _settle(self, model: Model, mode: Mode | None) -> None:
        """Puts what is new where the mode wants it, and makes it fast where nothing rules that out."""
        parts = (mode, model.guides.loaded, tuple(model.nets))
        if model.settled == parts:
            return
        model.settled = parts
        if mode is None:
            model.base.to(self._device)
            for net in model.nets.values():
                net.to(self._device)
            return
        place(model.base, mode, self._device, tuple(model.nets.values()))
        nets = SimpleNamespace(unet=model.base.unet, controlnet=SimpleNamespace(nets=list(model.nets.values())))
        levers = Levers() if self._settings.compile else Levers(compile="off")
        if mode in ("full", "tiled") and not why_not(nets, levers):
            model.accelerated = accelerate(nets, levers, cache_folder() / "compiled")

    def _pipeline(self, model: Model, works_on_picture: bool, net: Path | None) -> Any:
        name = PIPELINES[works_on_picture, net is not None]
        if (name, net) not in model.pipelines:
            extra = {} if net is None else {"controlnet": model.nets[net]}
            with quiet():
                made = getattr(diffusers, name)(**model.base.components, **extra, add_watermarker=False)
            made.set_progress_bar_config(disable=True)
            model.pipelines[name, net] = made
        return model.pipelines[name, net]

    def _texts(self, model: Model, given: StageInput) -> PromptEmbeds:
        key = (given.prompt, given.plan.negative_prompt, given.stage.clip_skip)
        if key not in model.texts:
            if len(model.texts) >= TEXTS:
                model.texts.pop(next(iter(model.texts)))
            model.texts[key] = encode(model.base, *key)
        return model.texts[key]


def _load(path: Path, vae: Path | None, dtype: Any) -> Any:
    """A stock SDXL pipeline from a diffusers folder or a single file, on the CPU; nothing is downloaded."""
    try:
        with quiet():
            if path.is_dir():
                pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(
                    path, dtype=dtype, local_files_only=True, add_watermarker=False
                )
            else:
                pipeline = load_single_file(path, dtype)
            if vae is not None:
                kind = diffusers.AutoencoderKL
                load = kind.from_pretrained if vae.is_dir() else kind.from_single_file
                pipeline.vae = load(vae, torch_dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadModelError(f"{path} could not be loaded as SDXL: {error}", f"sosie model show {path}") from error
    if dtype == torch.float16:
        pipeline.vae.to(torch.float32)  # SDXL's overflows in fp16
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _reporting(
    given: StageInput, keep: Callable[[int, Any], Any] | None = None
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """A callback of a pipeline that reports each step and, with `keep`, holds what must not change."""

    def after(pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        given.on_step(step + 1, pipe.num_timesteps)
        return values if keep is None else {**values, "latents": keep(step, values["latents"])}

    return after


def _keeping(pipeline: Any, under: Any, canvas: Canvas, seed: int) -> Callable[[int, Any], Any] | None:
    """Differential diffusion (Levin and Fried 2023, arXiv:2306.00950), as a function of step and latents.

    Where `change` is c, the picture under the canvas is put back, with the noise that it then
    has, until the share 1 - c of the steps is over; so the face's edge is freed last, and
    what is drawn grows into what stays. None if all may change.
    """
    if canvas.change is None:
        return None
    freed = torch.nn.functional.interpolate(
        torch.from_numpy(canvas.change)[None, None], size=under.shape[-2:], mode="area"
    ).to(under.device, under.dtype)
    # The noise that the pipeline itself draws first from a generator of this seed.
    noise = torch.randn(under.shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=under.dtype)
    noise = noise.to(under.device)

    def keep(step: int, latents: Any) -> Any:
        scheduler, count = pipeline.scheduler, pipeline.num_timesteps
        last = step + 1 == count
        if not getattr(scheduler, "state_in_first_order", True):
            return latents  # half of a step: the latents lie at a noise level that no timestep has
        # A scheduler's timesteps are those of all steps; this call runs the last `count` of them.
        kept = under if last else scheduler.add_noise(under, noise, scheduler.timesteps[step + 1 - count][None])
        open_now = freed > (0 if last else 1 - (step + 1) / count)
        return torch.where(open_now, latents, kept.to(latents.dtype))

    return keep


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Turns the progress bars and warnings of diffusers and transformers off while weights load."""
    logging: Any = importlib.import_module("diffusers.utils.logging")
    transformers_logging: Any = importlib.import_module("transformers.utils.logging")
    before = logging.get_verbosity(), transformers_logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
