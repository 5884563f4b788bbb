"""How much memory of a GPU SDXL needs, and which way of using it fits: an estimate without torch.

Five modes, each smaller and slower than the one before:

| mode | what it does |
| --- | --- |
| `full` | every part stays on the GPU |
| `tiled` | ... and pictures are decoded and encoded in tiles |
| `offload` | ... and of encoders, denoiser and VAE only those at work are on the GPU |
| `fp8` | ... and the denoiser and its ControlNets hold their weights in 8 bits (they compute in 16) |
| `sequential` | in tiles, and each layer comes to the GPU when it is its turn (16 bits) |

Weights count by parameters and bytes each. What a pass needs beside them grows with pixels and rows
of the batch only, since attention never holds its square matrix. The constants were fitted to peaks of
the allocator on an H100: `benchmarks/sdxl_memory.py`, table in `docs/speed.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sosie.core.errors import EngineError

Mode = Literal["full", "tiled", "offload", "fp8", "sequential"]
MODES: tuple[Mode, ...] = ("full", "tiled", "offload", "fp8", "sequential")

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

GB = 1e9
MARGIN = 1.08
"""What fits must fit so many times over: estimates are within 15 % of what was measured, most within 8."""

CONTEXT = 0.8 * GB
"""CUDA and its libraries, beside what the allocator holds."""

TEXT = 0.3 * GB
"""Bytes of a pass of the text and image encoders."""

DENOISE, DENOISE_PIXEL = 0.55 * GB, 110.0
"""Bytes of a pass of the UNet: always, and for each pixel of each row of the batch."""

CONTROL_PIXEL = 55.0
"""... more for each pixel and row with a ControlNet: its residuals."""

CODE = 0.15 * GB
DECODE_PIXEL, ENCODE_PIXEL = 3000.0, 1650.0
"""Bytes of a pass of the VAE: `CODE` always, and for each pixel of what it works on at once."""

TILE = 512
"""Side of the VAE's tiles in pixels."""

UPSCALE_PIXEL = 9500.0
"""Bytes of an ESRGAN-class model that enlarges four times, for each pixel of a tile."""

LAYER = 0.06 * GB
"""The largest layer's weights: what `sequential` holds."""

CAST = 1.03
"""Bytes of a parameter held in 8 bits: norms keep 16."""


@dataclass(frozen=True)
class Work:
    """One stage of a recipe in the terms of memory.

    `width` and `height` are what is drawn at once, in pixels (a tile's of an upscale). `guides` are
    identity guides by kind, `controls` counts ControlNets; `rows` is the images times two under guidance.
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
class Needs:
    """What one image takes: its stages, all with one SDXL model.

    `accelerated` keeps the memory of the captured passes for good (modes `full` and `tiled` alone).
    `number` is the bytes of one number in weights and passes: 2, or 4 in fp32. `parameters` are the
    counts of the parts; where files are at hand, from their headers.
    """

    works: tuple[Work, ...]
    accelerated: bool = False
    number: int = 2
    parameters: Mapping[str, int] = field(default_factory=lambda: PARAMETERS)


@dataclass(frozen=True)
class Estimate:
    """What a mode needs at its worst moments, in bytes: of `moments`, the largest is the `peak`."""

    mode: Mode
    moments: Mapping[str, int]

    @property
    def peak(self) -> int:
        """Bytes of the GPU's memory, CUDA's own included."""
        return max(self.moments.values())


def estimate(needs: Needs, mode: Mode) -> Estimate:
    """The memory that a mode needs. Moments are called `STAGE text | encode | denoise | decode`, or `upscale`."""
    moments: dict[str, int] = {}
    for work in needs.works:
        for moment, at_work, passing in _moments(needs, work, mode):
            name = moment if work.kind == "upscale" else f"{work.kind} {moment}"
            held = _held(needs, mode, work, at_work)
            moments[name] = max(moments.get(name, 0), round(CONTEXT + held + passing * needs.number / 2))
    return Estimate(mode, moments)


def estimates(needs: Needs) -> tuple[Estimate, ...]:
    """Every mode's estimate, fastest mode first."""
    return tuple(estimate(needs, mode) for mode in MODES)


def choose(free: int, needs: Needs) -> Mode:
    """The fastest mode that fits `free` bytes. Raises `EngineError` if none does."""
    for one in estimates(needs):
        if one.peak * MARGIN <= free:
            return one.mode
    least = min(estimates(needs), key=lambda one: one.peak)
    needed = least.peak * MARGIN / GB
    raise EngineError(
        f"the GPU has {free / GB:.1f} GB free; the smallest mode ('{least.mode}') needs {needed:.1f} GB",
        "close what else uses the GPU, or draw a smaller image",
    )


def cheaper(mode: Mode) -> Mode | None:
    """The mode to fall back on when memory runs out, or None after the last."""
    following = MODES[MODES.index(mode) + 1 :]
    return following[0] if following else None


def said(mode: Mode, free: int, needs: Needs) -> str:
    """One sentence on a choice: what it needs, of how much, and what the next faster mode would need."""
    text = f"memory mode '{mode}': about {estimate(needs, mode).peak / GB:.1f} GB of {free / GB:.1f} GB free"
    faster = MODES[: MODES.index(mode)]
    return f"{text} ('{faster[-1]}' needs {estimate(needs, faster[-1]).peak / GB:.1f} GB)" if faster else text


def _moments(needs: Needs, work: Work, mode: Mode) -> Iterator[tuple[str, str, float]]:
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


def _held(needs: Needs, mode: Mode, work: Work, at_work: str) -> float:
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


def _drawn(needs: Needs) -> Sequence[Work]:
    return [work for work in needs.works if work.kind != "upscale"]
