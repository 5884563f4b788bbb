"""SDXL's pipelines on one model, with its LoRAs, guides and ControlNets, ready between images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import diffusers
import torch
from torch import Tensor, nn

from sosie.core.recipe import Stage
from sosie.core.sight import Sight
from sosie.diffusion.comfy_noise import start_noise
from sosie.diffusion.glimpse import sight_of, watch
from sosie.diffusion.held import DTYPES, Holder, kept
from sosie.diffusion.loading import quiet
from sosie.diffusion.memory import MemoryMode, Mode
from sosie.diffusion.offload import place, to_main_memory
from sosie.diffusion.schedulers import scheduler_for
from sosie.diffusion.vae import encode_image
from sosie.families import guides_of
from sosie.families.contract.draws import Settings, StageInput
from sosie.families.contract.guides import Pose, conditionings
from sosie.families.sdxl.diffusers.controlnet import load_controlnet
from sosie.families.sdxl.diffusers.fast.acceleration import Accelerated, Levers, accelerate, why_not
from sosie.families.sdxl.diffusers.fast.parts import Denoiser
from sosie.families.sdxl.diffusers.guidance import Guides, control_of, joined_text
from sosie.families.sdxl.diffusers.loras import Loras, faceid_loras
from sosie.families.sdxl.diffusers.parts import SdxlPipeline
from sosie.families.sdxl.diffusers.single_file import load_pipeline
from sosie.families.sdxl.diffusers.text import PromptEmbeds, encode
from sosie.families.sdxl.memory import estimates, needs_of
from sosie.files.cache import cache_folder

if TYPE_CHECKING:
    from sosie.diffusion.canvas import Canvas
    from sosie.diffusion.parts import Vae

_library: Any = diffusers

PIPELINES = {
    (False, False): "StableDiffusionXLPipeline",
    (False, True): "StableDiffusionXLControlNetPipeline",
    (True, False): "StableDiffusionXLImg2ImgPipeline",
    (True, True): "StableDiffusionXLControlNetImg2ImgPipeline",
}
"""By: works on an image, has a ControlNet."""

TEXTS = 64
"""Prompts that are kept encoded, about 1 MB each; the oldest goes first."""


@dataclass(eq=False)
class Model:
    """A loaded model and everything that hangs on its weights."""

    key: tuple[object, ...]
    base: SdxlPipeline
    guides: Guides
    loras: Loras
    schedule: Mapping[str, object]
    nets: dict[Path, nn.Module] = field(default_factory=dict[Path, nn.Module])
    pipelines: dict[tuple[str, Path | None], SdxlPipeline] = field(
        default_factory=dict[tuple[str, Path | None], SdxlPipeline]
    )
    texts: dict[tuple[str, str, int], PromptEmbeds] = field(default_factory=dict[tuple[str, str, int], PromptEmbeds])
    settled: tuple[object, ...] = ()
    accelerated: Accelerated | None = None

    @property
    def vae(self) -> Vae:
        """The VAE of its pipeline."""
        return self.base.vae

    def restore(self) -> None:
        """Takes away what was made fast: it holds on to layers that are about to change."""
        if self.accelerated is not None:
            self.accelerated.restore()
        self.accelerated, self.settled = None, ()

    def leave_gpu(self) -> None:
        """Moves the weights to main memory."""
        self.texts.clear()
        to_main_memory(self.base, tuple(self.nets.values()))


@dataclass(frozen=True, eq=False)
class _Denoisers:
    """What is made fast: the UNet and all ControlNets of a model."""

    unet: Denoiser
    controlnet: SimpleNamespace


class Pipelines(Holder[Model]):
    """Draws by one model at a time."""

    def __init__(self, device: str, settings: Settings) -> None:
        memory = MemoryMode(device, settings.memory, lambda plan: estimates(needs_of(plan, accelerated=True)))
        super().__init__(device, memory)
        self._settings = settings

    def denoise(self, given: StageInput, canvas: Canvas) -> Tensor:
        """The latents [1, 4, h / 8, w / 8] of what the stage draws on the canvas."""
        stage = given.stage
        model = self._prepared(given)
        pose = None if canvas.face is None else Pose(canvas.face.points, canvas.width, canvas.height)
        joined = conditionings(guides_of("sdxl"), given, pose)
        control = control_of(joined)
        net = given.paths[control[1].keypoints.controlnet] if control is not None else None
        pipeline = self._pipeline(model, canvas.under is not None, net)
        comfys = given.seed if stage.sampler.noise == "comfy" else None
        pipeline.scheduler = scheduler_for(stage.sampler, model.schedule, comfys)
        clean = watch(pipeline.scheduler)
        texts = self._texts(model, given).followed_by(joined_text(joined, model.base.unet.config.cross_attention_dim))
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
            if comfys is not None:
                shape = (1, model.base.unet.config.in_channels, canvas.height // 8, canvas.width // 8)
                arguments["latents"] = start_noise(comfys, shape).to(texts.prompt_embeds.dtype)
            after = _reporting(given, clean)
        else:
            latents = encode_image(model.base.vae, canvas.under).to(texts.prompt_embeds.dtype)
            arguments |= {"image": latents, "strength": stage.sampler.denoise}
            after = _reporting(given, clean, _keeping(pipeline, latents, canvas, given.seed))
        with model.guides.condition(pipeline, given, joined) as guided:
            return pipeline(**arguments, **guided, callback_on_step_end=after).images

    def _prepared(self, given: StageInput) -> Model:
        """The stage's model with exactly the stage's LoRAs and guides in it, placed and ready."""
        stage, plan, paths = given.stage, given.plan, given.paths
        mode = self._memory.mode(plan)
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
        precision = self.precision(stage)
        key = (path, vae, precision, mode, fixed)

        def load() -> Model:
            base = _load(path, vae, DTYPES[precision])
            return Model(key, base, Guides(base), Loras(base), dict(base.scheduler.config))

        return self.hold(key, load)

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
        nets = _Denoisers(cast(Any, model.base.unet), SimpleNamespace(nets=list(model.nets.values())))
        levers = Levers() if self._settings.compile else Levers(compile="off")
        if mode in ("full", "tiled") and not why_not(nets, levers):
            model.accelerated = accelerate(nets, levers, cache_folder() / "compiled")

    def _pipeline(self, model: Model, works_on_image: bool, net: Path | None) -> SdxlPipeline:
        name = PIPELINES[works_on_image, net is not None]
        if (name, net) not in model.pipelines:
            extra = {} if net is None else {"controlnet": model.nets[net]}
            with quiet():
                made = getattr(_library, name)(**model.base.components, **extra, add_watermarker=False)
            made.set_progress_bar_config(disable=True)
            model.pipelines[name, net] = made
        return model.pipelines[name, net]

    def _texts(self, model: Model, given: StageInput) -> PromptEmbeds:
        key = (given.prompt, given.plan.negative_prompt, given.stage.clip_skip)
        return kept(model.texts, key, TEXTS, lambda: encode(model.base, *key))


def _load(path: Path, vae: Path | None, dtype: torch.dtype) -> SdxlPipeline:
    pipeline = load_pipeline(path, vae, dtype)
    if dtype == torch.float16:
        pipeline.vae.to(torch.float32)  # SDXL's overflows in fp16
    return pipeline


def _reporting(
    given: StageInput, clean: Callable[[], Tensor | None], keep: Callable[[int, Tensor], Tensor] | None = None
) -> Callable[[SdxlPipeline, int, Tensor, dict[str, Tensor]], dict[str, Tensor]]:
    """A callback of a pipeline that reports each step and, with `keep`, holds what must not change.

    `clean` is the picture without noise as it looks then.
    """

    def after(pipe: SdxlPipeline, step: int, _time: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        given.on_sight(step + 1, pipe.num_timesteps, lambda: _sight(pipe.vae, clean()))
        given.on_step(step + 1, pipe.num_timesteps)
        return values if keep is None else {**values, "latents": keep(step, values["latents"])}

    return after


def _sight(vae: Vae, x0: Tensor | None) -> Sight | None:
    return None if x0 is None else sight_of(vae, x0)


def _keeping(
    pipeline: SdxlPipeline, under: Tensor, canvas: Canvas, seed: int
) -> Callable[[int, Tensor], Tensor] | None:
    """Differential diffusion (Levin and Fried 2023, arXiv:2306.00950), as a function of step and latents.

    Where `change` is c, the image under the canvas is put back, with the noise that it then
    has, until the share 1 - c of the steps is over; so the face's edge is freed last, and
    what is drawn grows into what stays. None if all may change.
    """
    if canvas.change is None:
        return None
    freed = torch.nn.functional.interpolate(
        torch.as_tensor(canvas.change)[None, None], size=under.shape[-2:], mode="area"
    ).to(under.device, under.dtype)
    # The noise that the pipeline itself draws first from a generator of this seed.
    noise = torch.randn(under.shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=under.dtype)
    noise = noise.to(under.device)

    def keep(step: int, latents: Tensor) -> Tensor:
        scheduler, count = pipeline.scheduler, pipeline.num_timesteps
        last = step + 1 == count
        if not getattr(scheduler, "state_in_first_order", True):
            return latents  # half of a step: the latents lie at a noise level that no timestep has
        # A scheduler's timesteps are those of all steps; this call runs the last `count` of them.
        kept = under if last else scheduler.add_noise(under, noise, scheduler.timesteps[step + 1 - count][None])
        open_now = freed > (0 if last else 1 - (step + 1) / count)
        return torch.where(open_now, latents, kept.to(latents.dtype))

    return keep
