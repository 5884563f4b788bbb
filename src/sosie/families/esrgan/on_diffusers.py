"""Upscalers on torch, through spandrel: in tiles, in passes, to the exact size."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import BadModelError, EngineError
from sosie.core.finding import Rule
from sosie.core.recipe import DrawingPrecision
from sosie.core.stage_rules import E001, E004, check_fp8
from sosie.families.contract.draws import Settings, StageInput, StageOutput
from sosie.families.esrgan.tiles import Grid, grid, join
from sosie.families.esrgan.weights import load_upscaler

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from spandrel import ImageModelDescriptor

E060 = Rule("SOS-E060", "warning", "An upscaler's tiles were made smaller")
E061 = Rule("SOS-E061", "warning", "An upscaler was used again in fp32")
E062 = Rule("SOS-E062", "error", "An upscaled image would be too large")

Size = tuple[int, int]

LEAST_TILE = 64
"""Side in pixels of the smallest tile that is tried when memory runs out."""

NO_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch, cuDNN and cuBLAS say in a RuntimeError when memory runs out."""

MAX_PIXELS = 100_000_000
"""The largest image that Sosie reads."""


class _OutOfMemoryError(Exception):
    """A tile did not fit."""


class _NotANumberError(Exception):
    """A tile's enlargement is not all numbers."""


@dataclass(eq=False)
class _Work:
    """One image on its way: what is asked, the network, and what had to give.

    `tile` and `overlap` are in pixels of the image that a pass enlarges.
    """

    given: StageInput
    model: ImageModelDescriptor[torch.nn.Module]
    tile: int
    overlap: int
    findings: list[Finding] = field(default_factory=list[Finding])

    def note(self, rule: Rule, message: str, hint: str) -> None:
        self.findings.append(rule.at(self.given.plan.recipe, message, hint))

    def grid(self, size: Size) -> Grid:
        return grid(size, self.tile, self.overlap, int(self.model.size_requirements.multiple_of))


class Runner:
    """Runs `upscale` stages. Holds the weights of one upscaler from its first image to `close`.

    `device` is `cpu` or `cuda`: fp32 on a CPU, on a GPU 16 bits where the network allows them.
    Of the settings none counts here: a tile bounds what is used.
    """

    def __init__(self, device: str, settings: Settings) -> None:
        del settings
        self._torch: Any = importlib.import_module("torch")
        self._device = device
        self._model: ImageModelDescriptor[torch.nn.Module] | None = None
        self._loaded: tuple[Path, str] | None = None

    def run(self, given: StageInput) -> StageOutput:
        """The source, `factor` times as large to the pixel (each side rounded); `on_step` counts tiles.

        Factors above the network's own take several passes, the last of them on an image that
        was made just large enough by Lanczos; what then differs from the asked size is resized by
        Lanczos too. Where memory runs out, tiles of half the side are used from then on (SOS-E060);
        a result that is not a number is made again in fp32 (SOS-E061). Raises `BadModelError` for a
        file that is no upscaler, `EngineError` if it fails or not even the smallest tile fits.
        """
        if given.source is None:
            raise EngineError(f"plan {given.plan.id[:12]}: stage 'upscale' works on an image; there is none")
        asked = given.stage.upscale
        image = given.source.convert("RGB")
        model = self._load(given, given.stage.precision)
        work = _Work(given, model, asked.tile, asked.overlap)
        target = round(image.width * asked.factor), round(image.height * asked.factor)
        sizes = _passes(image.size, target, int(model.scale))
        for index, size in enumerate(sizes):
            image = self._pass(_resized(image, size), work, sizes, index)
        tiles = sum(work.grid(size).tiles for size in sizes)
        measures = (("passes", float(len(sizes))), ("tiles", float(tiles)), ("tile_px", float(work.tile)))
        return StageOutput(_resized(image, target), tuple(work.findings), measures)

    def rest(self) -> None:
        """Frees the GPU and keeps the weights in main memory."""
        if self._model is not None:
            self._model.to("cpu")
            self._empty_cache()

    def close(self) -> None:
        """Frees the weights."""
        self._model = self._loaded = None
        self._empty_cache()

    def _pass(self, image: Image.Image, work: _Work, sizes: Sequence[Size], index: int) -> Image.Image:
        """The pass at `index` of all the passes, again with smaller tiles or in fp32 until it succeeds."""
        while True:
            try:
                return Image.fromarray(self._tiles(np.asarray(image), work, sizes, index))
            except _OutOfMemoryError as error:
                mend = partial(_use_smaller, side=max(image.size), why=str(error))
            except _NotANumberError:
                mend = self._use_fp32
            # Only here, without the error and the frames that it held, is the failed tile's memory free.
            self._empty_cache()
            mend(work)

    def _tiles(self, pixels: NDArray[np.uint8], work: _Work, sizes: Sequence[Size], index: int) -> NDArray[np.uint8]:
        grids = [work.grid(size) for size in sizes]
        total = sum(each.tiles for each in grids)
        steps = count(sum(each.tiles for each in grids[:index]))
        report = work.given.on_step
        report(next(steps), total)

        def enlarge(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
            made = self._tile(tile, work)
            report(next(steps), total)
            return made

        try:
            return join(pixels, grids[index], int(work.model.scale), enlarge)
        except MemoryError as error:
            raise _OutOfMemoryError(str(error) or "no memory for the result") from None

    def _tile(self, tile: NDArray[np.uint8], work: _Work) -> NDArray[np.float32]:
        from sosie.diffusion.waiting import computed

        torch, model = self._torch, work.model
        try:
            values = torch.from_numpy(tile.copy()).to(self._device).permute(2, 0, 1)[None]
            made = model(values.float().div(255).to(model.dtype))
            result: NDArray[np.float32] = computed(made)[0].permute(1, 2, 0).float().cpu().numpy()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in NO_MEMORY):
                raise _OutOfMemoryError(str(error)) from None
            raise EngineError(f"plan {work.given.plan.id[:12]} failed in stage 'upscale': {error}") from error
        if not np.isfinite(result).all():
            if model.dtype is torch.float32:
                name = work.given.stage.model
                raise EngineError(f"upscaler '{name}' gives values that are no numbers", f"sosie doctor {name}")
            raise _NotANumberError
        return result

    def _use_fp32(self, work: _Work) -> None:
        before = str(work.model.dtype).removeprefix("torch.")
        work.model = self._load(work.given, "fp32")
        message = f"upscaler '{work.given.stage.model}' gave values that are no numbers in {before}; went on in fp32"
        work.note(E061, message, 'set precision = "fp32" in a copy of the recipe')

    def _load(self, given: StageInput, precision: DrawingPrecision) -> ImageModelDescriptor[torch.nn.Module]:
        path = given.paths[given.stage.model]
        if self._model is None or self._loaded != (path, precision):
            self.close()
            model = load_upscaler(path)
            dtype = self._dtype(model, precision, path)
            try:
                self._model = model.to(self._device, dtype).eval()
            except self._torch.OutOfMemoryError as error:
                raise EngineError(
                    f"{path} does not fit the GPU's memory: {error}", "close what else uses it"
                ) from error
            self._loaded = (path, precision)
        return self._model.to(self._device)

    def _dtype(
        self, model: ImageModelDescriptor[torch.nn.Module], precision: DrawingPrecision, path: Path
    ) -> torch.dtype:
        """What the stage asks for; by itself fp32 on a CPU, else fp16 before bf16 before fp32."""
        able = {"fp16": model.supports_half, "bf16": model.supports_bfloat16, "fp32": True}
        if precision == "auto":
            chosen = "fp32" if self._device == "cpu" else next(name for name, can in able.items() if can)
        elif able.get(precision):
            chosen = precision
        else:
            name = model.architecture.name
            raise BadModelError(f"{path} ({name}) does not run in {precision}", 'set precision = "auto"')
        return {"fp16": self._torch.float16, "bf16": self._torch.bfloat16, "fp32": self._torch.float32}[chosen]

    def _empty_cache(self) -> None:
        if self._device != "cpu":
            self._torch.cuda.empty_cache()


def runner(device: str, settings: Settings) -> Runner:
    """Runs the stages of this family on `cpu` or `cuda`."""
    return Runner(device, settings)


def check(stage: Stage, plan: Plan) -> list[Finding]:
    """What would stop this stage, from the plan and the installed packages alone."""
    findings = check_fp8(stage, plan, "an upscaler")
    if stage.kind != "upscale":
        message = f"an upscaler has no stage '{stage.kind}'; expected 'upscale'"
        findings.append(E001.at(plan.recipe, message, f"sosie recipe show {plan.recipe}"))
    if importlib.util.find_spec("spandrel") is None:
        message = f"recipe '{plan.recipe}' upscales with spandrel, which is not installed"
        findings.append(E004.at("spandrel", message, 'pip install "sosie[local]"'))
    pixels = _pixels(stage, plan)
    if pixels > MAX_PIXELS:
        message = f"the upscaled image would have {pixels:,.0f} pixels; expected at most {MAX_PIXELS:,}"
        findings.append(E062.at(plan.recipe, message, f"sosie recipe copy {plan.recipe}"))
    return findings


def _pixels(stage: Stage, plan: Plan) -> float:
    """Of the image after this stage."""
    until = plan.stages.index(stage) + 1 if stage in plan.stages else 0
    factors = [each.upscale.factor for each in plan.stages[:until] if each.kind == "upscale"]
    return plan.width * plan.height * prod(factors) ** 2


def _passes(size: Size, target: Size, scale: int) -> tuple[Size, ...]:
    """The size that each pass enlarges `scale` times, so that the last one reaches the target.

    More than one: the last begins from the smallest size that suffices, so that nothing larger
    than the target (rounded up to the scale) is ever made.
    """
    sizes = [size]
    while sizes[-1][0] * scale < target[0]:
        sizes.append((sizes[-1][0] * scale, sizes[-1][1] * scale))
    if len(sizes) > 1:
        sizes[-1] = ceil(target[0] / scale), ceil(target[1] / scale)
    return tuple(sizes)


def _resized(image: Image.Image, size: Size) -> Image.Image:
    """The image itself if it has that size, else by Lanczos."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _use_smaller(work: _Work, side: int, why: str) -> None:
    """Halves the tile, of an image of that longer side. Raises `EngineError` if it is the smallest already."""
    before = min(work.tile, side)
    if before <= LEAST_TILE:
        hint = "close what else uses the memory, or use a smaller upscaler"
        raise EngineError(f"an upscaler's tile of {before} px does not fit the memory: {why}", hint)
    work.tile = max(before // 2, LEAST_TILE)
    work.overlap = min(work.overlap, work.tile // 4)
    message = f"the memory did not suffice for tiles of {before} px; went on with {work.tile} px"
    work.note(E060, message, f"set upscale.tile = {work.tile} in a copy of the recipe")
