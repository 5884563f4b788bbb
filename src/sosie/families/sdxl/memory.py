"""How much memory of a GPU SDXL needs in each memory mode: an estimate without torch.

Weights count by parameters and bytes each. What a pass needs beside them grows with pixels and rows
of the batch only, since attention never holds its square matrix. The constants were fitted to peaks of
the allocator on an H100: `benchmarks/sdxl_memory.py`, table in `docs/speed.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sosie.core import Plan, Stage
from sosie.diffusion.memory import CONTEXT, GB, MODES, TILE, Estimate, Mode
from sosie.families import guides_of

PARAMETERS: Mapping[str, int] = {
    "unet": 2_567_463_684,
    "controlnet": 1_251_014_160,
    "text_encoders": 123_060_480 + 694_659_840,
    "image_encoder": 632_076_800,
    "vae": 83_653_863,
    "faceid": 349_713_408,
    "faceid-plus-v2": 557_913_088,
    "instantid": 422_765_824,
    "upscaler": 16_697_987,
}
"""Parameters of the parts at SDXL's size; adapters with their projections."""

TEXT = 0.3 * GB
"""Bytes of a pass of the text and image encoders."""

DENOISE, DENOISE_PIXEL = 0.55 * GB, 110.0
"""Bytes of a pass of the UNet: always, and for each pixel of each row of the batch."""

CONTROL_PIXEL = 55.0
"""... more for each pixel and row with a ControlNet: its residuals."""

CODE = 0.15 * GB
DECODE_PIXEL, ENCODE_PIXEL = 3000.0, 1650.0
"""Bytes of a pass of the VAE: `CODE` always, and for each pixel of what it works on at once."""

UPSCALE_PIXEL = 9500.0
"""Bytes of an ESRGAN-class model that enlarges four times, for each pixel of a tile."""

LAYER = 0.06 * GB
"""The largest layer's weights: what `sequential` holds."""

CAST = 1.03
"""Bytes of a parameter held in 8 bits: norms keep 16."""


@dataclass(frozen=True)
class Work:
    """One stage of a recipe in the terms of memory.

    `width` and `height` are what is drawn at once, in pixels (a tile's of an upscale). `guides` are the
    adapters of identity guides, by their kind, `controls` counts ControlNets; `rows` is the images times two under
    guidance.
    """

    kind: Literal["generate", "refine", "detail", "upscale"]
    width: int
    height: int
    guides: tuple[str, ...] = ()
    controls: int = 0
    rows: int = 2

    @property
    def pixels(self) -> int:
        """Of one row."""
        return self.width * self.height


@dataclass(frozen=True)
class ImageNeeds:
    """What one image takes: its stages, all with one SDXL model.

    `accelerated` keeps the memory of the captured passes for good (modes `full` and `tiled` alone).
    `number` is the bytes of one number in weights and passes: 2, or 4 in fp32. `parameters` are the
    counts of the parts; where files are at hand, from their headers.
    """

    works: tuple[Work, ...]
    accelerated: bool = False
    number: int = 2
    parameters: Mapping[str, int] = field(default_factory=lambda: PARAMETERS)


def needs_of(plan: Plan, accelerated: bool = False) -> ImageNeeds:
    """What a plan's stages take together, at SDXL's full size."""
    known = guides_of("sdxl")
    works: list[Work] = []
    for stage in plan.stages:
        width, height = _drawn_at_once(stage, plan)
        controls = sum(guide.keypoints is not None for guide in stage.guides)
        kinds = (known.kind(guide.kind) for guide in stage.guides)
        guides = tuple(kind.adapter for kind in kinds if kind and kind.adapter)
        works.append(Work(stage.kind, width, height, guides, controls, 2 if stage.sampler.cfg > 1 else 1))
    return ImageNeeds(tuple(works), accelerated)


def _drawn_at_once(stage: Stage, plan: Plan) -> tuple[int, int]:
    if stage.kind == "detail":
        return stage.detail.size, stage.detail.size
    if stage.kind == "upscale":
        return stage.upscale.tile, stage.upscale.tile
    return plan.width, plan.height


def estimate(needs: ImageNeeds, mode: Mode) -> Estimate:
    """The memory that a mode needs. Moments are called `STAGE text | encode | denoise | decode`, or `upscale`."""
    moments: dict[str, int] = {}
    for work in needs.works:
        for moment, at_work, passing in _moments(needs, work, mode):
            name = moment if work.kind == "upscale" else f"{work.kind} {moment}"
            held = _held(needs, mode, work, at_work)
            moments[name] = max(moments.get(name, 0), round(CONTEXT + held + passing * needs.number / 2))
    return Estimate(mode, moments)


def estimates(needs: ImageNeeds) -> tuple[Estimate, ...]:
    """Every mode's estimate, fastest mode first."""
    return tuple(estimate(needs, mode) for mode in MODES)


def _moments(needs: ImageNeeds, work: Work, mode: Mode) -> Iterator[tuple[str, str, float]]:
    """Of a stage: the moment, the group of parts at work, and the bytes of its pass."""
    if work.kind == "upscale":
        yield "upscale", "vae", 2 * needs.parameters["upscaler"] + UPSCALE_PIXEL * work.pixels
        return
    at_once = work.pixels if mode == "full" else min(work.pixels, TILE * TILE)
    images = max(work.rows // 2, 1)
    yield "text", "encoders", TEXT
    if work.kind != "generate":
        yield "encode", "vae", CODE + ENCODE_PIXEL * at_once
    yield "denoise", "denoiser", _passing(work)
    yield "decode", "vae", CODE + DECODE_PIXEL * at_once * (images if mode == "full" else 1)


def _passing(work: Work) -> float:
    control = CONTROL_PIXEL if work.controls else 0.0
    return DENOISE + (DENOISE_PIXEL + control) * work.pixels * work.rows


def _held(needs: ImageNeeds, mode: Mode, work: Work, at_work: str) -> float:
    """Bytes of weights, and of captured passes, that lie on the GPU while a group of parts is at work."""
    count, drawn = needs.parameters, _drawn(needs)
    guides = {guide for one in drawn for guide in one.guides}
    controls = max((one.controls for one in drawn), default=0)
    vision = count["image_encoder"] if "faceid-plus-v2" in guides else 0
    model = count["unet"] + sum(count[guide] for guide in guides)
    if mode == "sequential":
        return LAYER * needs.number / 2
    if mode in ("full", "tiled"):
        captured = max(map(_passing, drawn), default=0.0) if needs.accelerated and at_work != "denoiser" else 0.0
        every = count["text_encoders"] + vision + model + controls * count["controlnet"] + count["vae"]
        return needs.number * every + captured * needs.number / 2
    if at_work == "denoiser":
        return (CAST if mode == "fp8" else needs.number) * (model + work.controls * count["controlnet"])
    return needs.number * (count["vae"] if at_work == "vae" else count["text_encoders"] + vision)


def _drawn(needs: ImageNeeds) -> Sequence[Work]:
    return [work for work in needs.works if work.kind != "upscale"]
