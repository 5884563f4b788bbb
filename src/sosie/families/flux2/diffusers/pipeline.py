"""FLUX.2 klein on one model, with its LoRAs and references, ready between images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sosie.core import Plan
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
from sosie.diffusion.vae import decode_latents, to_image
from sosie.families import guides_of
from sosie.families.contract.draws import Settings, StageInput
from sosie.families.contract.guides import conditionings
from sosie.families.flux2.diffusers.denoise import Guidance, Velocity
from sosie.families.flux2.diffusers.fast.transformer import FastTransformer, Levers, why_not
from sosie.families.flux2.diffusers.latents import BLOCK, latents_of, raw_latents
from sosie.families.flux2.diffusers.load import Files, load_parts
from sosie.families.flux2.diffusers.loras import Loras
from sosie.families.flux2.diffusers.parts import Parts
from sosie.families.flux2.diffusers.text import encode
from sosie.families.flux2.memory import needs_of
from sosie.families.flux2.shift import shift_of
from sosie.files.cache import cache_folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.diffusion.canvas import Canvas
    from sosie.diffusion.parts import Vae

TEXTS = 16
"""Prompts that are kept encoded, 8 MB each; the oldest goes first."""


@dataclass(eq=False)
class Model:
    """A loaded model and everything that hangs on its weights."""

    key: tuple[object, ...]
    parts: Parts
    loras: Loras
    texts: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
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
        to_main_memory(self.parts)


class Pipelines(Holder[Model]):
    """Draws by one model at a time."""

    def __init__(self, device: str, settings: Settings) -> None:
        super().__init__(device, MemoryMode(device, settings.memory, self._estimates))
        self._settings = settings
        self._paths: Mapping[str, Path] = {}

    def draw(self, given: StageInput, canvas: Canvas) -> Image:
        """What the stage draws on the canvas (RGB)."""
        with torch.no_grad():
            latents = self.denoise(given, canvas)
            pixels, _ = decode_latents(self.vae, raw_latents(self.vae, latents))
        return to_image(pixels).crop((0, 0, canvas.width, canvas.height))

    def denoise(self, given: StageInput, canvas: Canvas) -> Tensor:
        """The latents [1, 128, h / 16, w / 16] of what the stage draws on the canvas, float32.

        A canvas whose sides are no multiples of 16 px is drawn larger, at its right and below.
        """
        model = self._prepared(given)
        parts, sampler = model.parts, given.stage.sampler
        height, width = -(-canvas.height // BLOCK), -(-canvas.width // BLOCK)
        shift = shift_of(height * width, sampler.steps)
        levels = flow_levels(sampler, shift, 1.0 if canvas.under is None else sampler.denoise)
        shape = (1, parts.transformer.config.in_channels, height, width)
        noise, new_noise = flow_noise(sampler, given.seed, shape, levels, self._device)
        guidance = self._guidance(model, given, levels)
        velocity = Velocity(parts.transformer, guidance, device_of(parts.transformer), model.fast)
        under = None
        if canvas.under is not None:
            under = Under(latents_of(parts.vae, canvas.under).to(self._device, torch.float32), canvas)

        def took(done: int, of: int, x0: Tensor) -> None:
            given.on_sight(done, of, lambda: sight_of(parts.vae, raw_latents(parts.vae, x0)))
            given.on_step(done, of)

        return draw_flow(sampler, velocity, Start(levels, noise, new_noise), under, took)

    def _prepared(self, given: StageInput) -> Model:
        """The stage's model with exactly the stage's LoRAs in it, placed and ready."""
        stage, self._paths = given.stage, given.paths
        mode = self._memory.mode(given.plan)
        model = self._loaded(stage, given.paths, mode)
        model.loras.set(stage.loras, given.paths)
        if mode is not None and model.placed != mode:
            model.restore()
            place(model.parts, mode, self._device)
            model.placed = mode
            levers = Levers(compile=self._settings.compile)
            if mode in ("full", "tiled") and not why_not(model.parts.transformer, levers):
                model.fast = FastTransformer(model.parts.transformer, levers, cache_folder() / "compiled")
        return model

    def _loaded(self, stage: Stage, paths: Mapping[str, Path], mode: Mode | None) -> Model:
        """The stage's model. Weights in 8 bits take no other LoRA."""
        files = Files.of(paths[stage.model], paths.get(stage.text_encoder), paths.get(stage.vae))
        precision = self.precision(stage)
        key = (files, precision, mode, stage.loras if mode == "fp8" else ())

        def load() -> Model:
            parts = load_parts(files, DTYPES[precision], self._device, packed=True)
            return Model(key, parts, Loras(parts.transformer))

        return self.hold(key, load)

    def _guidance(self, model: Model, given: StageInput, levels: FlowLevels) -> Guidance:
        sampler = given.stage.sampler
        negative = self._text(model, plain(given.plan.negative_prompt)) if sampler.cfg != 1 else None
        found = [(guide, asked.images) for guide, asked in conditionings(guides_of("flux2"), given) if asked.images]
        return Guidance(
            self._text(model, given.words),
            negative,
            sampler.cfg,
            self._references(model, [image for _, images in found for image in images]),
            found[0][0].scale if found else 1.0,
            between(levels, sampler.cfg_start, sampler.cfg_end),
        )

    def _references(self, model: Model, images: Sequence[Image]) -> list[Tensor]:
        return [latents_of(model.parts.vae, image).to(self._device) for image in images]

    def _text(self, model: Model, text: str) -> Tensor:
        return kept(model.texts, text, TEXTS, lambda: encode(model.parts, text).to(self._device))

    def _estimates(self, plan: Plan) -> tuple[Estimate, ...]:
        stage = next(stage for stage in plan.stages if stage.family == "flux2")
        paths = self._paths
        files = Files.of(paths[stage.model], paths.get(stage.text_encoder), paths.get(stage.vae))
        return estimates(needs_of(plan, files.sizes(2)))
