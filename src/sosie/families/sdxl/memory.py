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

CONTEXT = 0.55 * GB
"""CUDA and its libraries, beside what the allocator holds."""

TEXT = 0.05 * GB
DENOISE, DENOISE_PIXEL = 0.1 * GB, 400.0
"""Bytes of a pass of the UNet in 16 bits: always, and for each pixel of each row of the batch."""

CONTROL_PIXEL = 60.0
"""... more for each pixel and row with a ControlNet: its residuals."""

DECODE_PIXEL, ENCODE_PIXEL = 2600.0, 2600.0
"""Bytes of a pass of the VAE in 16 bits for each pixel of what it works on at once."""

TILE = 512
"""Side of the VAE's tiles in pixels."""

UPSCALE_PIXEL = 6000.0
"""Bytes of an ESRGAN-class model in 16 bits, four times, for each pixel of a tile."""

LAYER = 0.2 * GB
"""The largest layer's weights and what `sequential` holds beside it."""


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
    `parameters` are the counts of the parts; where files are at hand, from their headers.
    """

    works: tuple[Work, ...]
    accelerated: bool = False
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
            held = _held(needs, mode, at_work)
            moments[name] = max(moments.get(name, 0), round(CONTEXT + held + passing))
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
    raise EngineError(
        f"the GPU has {free / GB:.1f} GB free; the smallest mode ('{least.mode}') needs {least.peak * MARGIN / GB:.1f} GB",
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
        yield "encode", "vae", ENCODE_PIXEL * at_once
    yield "denoise", "denoiser", _passing(work)
    yield "decode", "vae", DECODE_PIXEL * at_once * (images if mode == "full" else 1)


def _passing(work: Work) -> float:
    control = CONTROL_PIXEL if work.controls else 0.0
    return DENOISE + (DENOISE_PIXEL + control) * work.pixels * work.rows


def _held(needs: Needs, mode: Mode, at_work: str) -> float:
    """Bytes of weights, and of captured passes, that lie on the GPU while a group of parts is at work."""
    groups = {name: sum(counts) for name, counts in _groups(needs).items()}
    if mode == "sequential":
        return LAYER
    if mode in ("full", "tiled"):
        captured = max(map(_passing, _drawn(needs)), default=0.0) if needs.accelerated else 0.0
        return 2 * sum(groups.values()) + (captured if at_work != "denoiser" else 0.0)
    return groups[at_work] * (1.0 if mode == "fp8" and at_work == "denoiser" else 2.0)


def _groups(needs: Needs) -> dict[str, list[int]]:
    """Parameters of the parts that work at the same time."""
    drawn, count = _drawn(needs), needs.parameters
    guides = sorted({guide for work in drawn for guide in work.guides})
    controls = max((work.controls for work in drawn), default=0)
    vision = [count["image_encoder"]] if "faceid-plus-v2" in guides else []
    return {
        "encoders": [count["text_encoders"], *vision],
        "denoiser": [count["unet"], *(count[guide] for guide in guides), controls * count["controlnet"]],
        "vae": [count["vae"]],
    }


def _drawn(needs: Needs) -> Sequence[Work]:
    return [work for work in needs.works if work.kind != "upscale"]
