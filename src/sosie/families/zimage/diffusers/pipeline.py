"""Z-Image on one model, with its LoRAs, ready between images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sosie.core import Plan
from sosie.core.errors import EngineError
from sosie.core.notation import plain
from sosie.core.recipe import Stage
from sosie.diffusion.flow.drawing import Start, Under, draw_flow
from sosie.diffusion.flow.levels import FlowLevels, flow_levels
from sosie.diffusion.flow.memory import estimates
from sosie.diffusion.flow.noise import flow_noise
from sosie.diffusion.flow.spans import between
from sosie.diffusion.glimpse import sight_of
from sosie.diffusion.held import DTYPES, Holder, kept
from sosie.diffusion.memory import Estimate, MemoryMode, Mode
from sosie.diffusion.offload import device_of, place, to_main_memory
from sosie.diffusion.vae import encode_image
from sosie.families.contract.draws import Settings, StageInput
from sosie.families.zimage.diffusers.controlnet import Controls, numbers
from sosie.families.zimage.diffusers.denoise import Guidance, Velocity
from sosie.families.zimage.diffusers.fast.transformer import FastTransformer, Levers, why_not
from sosie.families.zimage.diffusers.load import Files, load_parts
from sosie.families.zimage.diffusers.loras import Loras
from sosie.families.zimage.diffusers.parts import Parts
from sosie.families.zimage.diffusers.text import encode
from sosie.families.zimage.diffusers.weights import part_sizes
from sosie.families.zimage.guides import control
from sosie.families.zimage.memory import needs_of, with_nets
from sosie.files.cache import cache_folder

if TYPE_CHECKING:
    from sosie.diffusion.canvas import Canvas
    from sosie.diffusion.parts import Vae

TEXTS = 64
"""Prompts that are kept encoded, about 1 MB each; the oldest goes first."""


@dataclass(eq=False)
class Model:
    """A loaded model and everything that hangs on its weights."""

    key: tuple[object, ...]
    parts: Parts
    loras: Loras
    texts: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    controls: Controls = field(default_factory=Controls)
    placed: Mode | None = None
    fast: FastTransformer | None = None

    @property
    def vae(self) -> Vae:
        """The VAE among its parts."""
        return self.parts.vae

    def restore(self) -> None:
        """Takes away what was made fast, and where the weights were placed: they are about to move or to change."""
        if self.fast is not None:
            self.fast.restore()
        self.fast = self.placed = None

    def leave_gpu(self) -> None:
        """Moves the weights to main memory."""
        self.texts.clear()
        to_main_memory(self.parts, self.controls.nets)


class Pipelines(Holder[Model]):
    """Draws by one model at a time."""

    def __init__(self, device: str, settings: Settings) -> None:
        super().__init__(device, MemoryMode(device, settings.memory, self._estimates))
        self._settings = settings
        self._paths: Mapping[str, Path] = {}

    def denoise(self, given: StageInput, canvas: Canvas) -> Tensor:
        """The latents [1, c, h / 8, w / 8] of what the stage draws on the canvas, float32."""
        model = self._prepared(given)
        parts, sampler = model.parts, given.stage.sampler
        levels = flow_levels(sampler, parts.shift, 1.0 if canvas.under is None else sampler.denoise)
        shape = (1, parts.transformer.config.in_channels, canvas.height // 8, canvas.width // 8)
        noise, new_noise = flow_noise(sampler, given.seed, shape, levels, self._device)
        guidance, device = self._guidance(model, given, levels), device_of(parts.transformer)
        controls = model.controls.acting(given, parts.vae, levels)
        velocity = Velocity(parts.transformer, guidance, device, model.fast, controls)
        under = None
        if canvas.under is not None:
            under = Under(encode_image(parts.vae, canvas.under).to(self._device, torch.float32), canvas)

        def took(done: int, of: int, x0: Tensor) -> None:
            given.on_sight(done, of, lambda: sight_of(parts.vae, x0))
            given.on_step(done, of)

        return draw_flow(sampler, velocity, Start(levels, noise, new_noise), under, took)

    def _prepared(self, given: StageInput) -> Model:
        """The stage's model with exactly the stage's LoRAs in it, placed and ready."""
        stage, self._paths = given.stage, given.paths
        mode = self._memory.mode(given.plan)
        model = self._loaded(stage, given.paths, mode)
        model.loras.set(stage.loras, given.paths)
        others = model.controls.load(given, model.parts.transformer)
        if mode is not None and (others or model.placed != mode):
            model.restore()
            place(model.parts, mode, self._device, model.controls.nets)
            model.placed = mode
            levers = Levers(compile=self._settings.compile, fp8=stage.precision == "fp8")
            if not (why := _not_fast(model, levers)):
                model.fast = FastTransformer(model.parts.transformer, levers, cache_folder() / "compiled")
            elif levers.fp8:
                raise _no_fp8(why)
        elif stage.precision == "fp8" and model.fast is None:
            raise _no_fp8("this is a CPU")
        return model

    def _loaded(self, stage: Stage, paths: Mapping[str, Path], mode: Mode | None) -> Model:
        """The stage's model. Weights in 8 bits take no other LoRA."""
        files = Files.of(paths[stage.model], paths.get(stage.text_encoder), paths.get(stage.vae))
        precision = self.precision(stage)
        key = (files, precision, mode, stage.loras if "fp8" in (mode, precision) else ())

        def load() -> Model:
            parts = load_parts(files, DTYPES[precision], self._device, packed=True)
            return Model(key, parts, Loras(parts.transformer))

        return self.hold(key, load)

    def _guidance(self, model: Model, given: StageInput, levels: FlowLevels) -> Guidance:
        sampler = given.stage.sampler
        negative = self._text(model, plain(given.plan.negative_prompt)) if sampler.cfg != 1 else None
        acts = between(levels, sampler.cfg_start, sampler.cfg_end)
        return Guidance(self._text(model, given.words), negative, sampler.cfg, acts)

    def _text(self, model: Model, text: str) -> Tensor:
        return kept(model.texts, text, TEXTS, lambda: encode(model.parts, text).to(self._device))

    def _estimates(self, plan: Plan) -> tuple[Estimate, ...]:
        stage = next(stage for stage in plan.stages if stage.family == "zimage")
        paths = self._paths
        files = Files.of(paths[stage.model], paths.get(stage.text_encoder), paths.get(stage.vae))
        sizes = part_sizes(files.transformer, files.text_encoder, files.vae, 2)
        nets = {paths[guide.weights] for one in plan.stages for guide in one.guides if guide.kind == control.GUIDE.name}
        return estimates(needs_of(plan, with_nets(sizes, sum(map(numbers, nets)))))


def _not_fast(model: Model, levers: Levers) -> str:
    """Why a model is not made fast, or nothing."""
    if model.placed not in ("full", "tiled"):
        return f"the transformer is not on the GPU as a whole (memory mode '{model.placed}')"
    if model.controls.nets:
        return "a ControlNet acts beside it"
    return why_not(model.parts.transformer, levers)


def _no_fp8(why: str) -> EngineError:
    """A stage asks for products in fp8."""
    hint = 'set precision = "bf16" or "auto" in a copy of the recipe'
    return EngineError(f"there are no products in fp8: {why}", hint)
