"""How much memory of a GPU Z-Image needs in each memory mode: an estimate without torch.

Weights count as they are loaded: 16 bits a number, or the file's own bytes where they stay packed. A pass needs memory
for each token of each row of the batch, as attention never holds its square matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sosie.core import Plan, Stage
from sosie.diffusion.memory import CONTEXT, GB, MODES, TILE, Estimate, Mode
from sosie.families.contract.figures import Drawing
from sosie.files.storage import in_memory

PARAMETERS: Mapping[str, int] = {"transformer": 6_154_908_736, "text_encoder": 4_022_468_096, "vae": 83_819_683}
"""Parameters of the parts at Z-Image's size."""

TEXT = 0.3 * GB
"""Bytes of a pass of the text encoder."""

DENOISE, DENOISE_PIXEL = 0.5 * GB, 700.0
"""Bytes of a pass of the transformer: always, and for each pixel of each row of the batch."""

CODE = 0.15 * GB
DECODE_PIXEL, ENCODE_PIXEL = 3000.0, 1650.0
"""Bytes of a pass of the VAE: `CODE` always, and for each pixel of what it works on at once."""

LAYER = 0.4 * GB
"""The largest layer's weights: what `sequential` holds."""

CAST = 1.06
"""Bytes of a parameter held in 8 bits: embedders and norms keep 16."""

UNPACKED = 0.25 * GB
"""Bytes of one packed layer's weights as numbers, on their way to a product."""


@dataclass(frozen=True)
class PartSize:
    """Bytes of a part's weights as they are loaded, and in 8 bits; `packed` if the file's are smaller than 16 bits."""

    bytes: int
    in_8_bits: int
    packed: bool = False


def plain_size(parameters: int, number: int = 2) -> PartSize:
    """Of a part whose file has plain numbers, loaded with `number` bytes each."""
    return PartSize(number * parameters, round(CAST * parameters))


def with_nets(sizes: Mapping[str, PartSize], numbers: int) -> Mapping[str, PartSize]:
    """The sizes where ControlNets of so many numbers work beside the transformer."""
    own, net = sizes["transformer"], plain_size(numbers)
    return {**sizes, "transformer": PartSize(own.bytes + net.bytes, own.in_8_bits + net.in_8_bits, own.packed)}


SIZES: Mapping[str, PartSize] = {part: plain_size(count) for part, count in PARAMETERS.items()}


@dataclass(frozen=True)
class Work:
    """One stage in the terms of memory: what is drawn at once, in pixels, and the rows (2 under guidance)."""

    kind: str
    width: int
    height: int
    rows: int

    @property
    def pixels(self) -> int:
        """Of one row."""
        return self.width * self.height


@dataclass(frozen=True)
class ImageNeeds:
    """What one image takes. `number` is the bytes of one number in passes: 2, or 4 in fp32."""

    works: tuple[Work, ...]
    number: int = 2
    sizes: Mapping[str, PartSize] = field(default_factory=lambda: SIZES)


def needs_of(plan: Plan, sizes: Mapping[str, PartSize] = SIZES) -> ImageNeeds:
    """What a plan's stages of this family take together."""
    stages = tuple(stage for stage in plan.stages if stage.family == "zimage")
    fp32 = any(stage.precision == "fp32" for stage in stages)
    return ImageNeeds(tuple(_work(stage, plan) for stage in stages), 4 if fp32 else 2, sizes)


def drawing_peak(drawing: Drawing) -> int:
    """Bytes of a GPU that a stage takes in mode `offload`; a file of several parts counts as the published ones."""
    held = {"transformer": drawing.files.get("model"), "text_encoder": drawing.files.get("text_encoder")}
    sizes = dict(SIZES)
    for part, role in (("transformer", "denoiser"), ("text_encoder", "text-encoder")):
        file = held[part]
        if file is not None and file.role == role:
            loaded = in_memory(file.storage, file.parameters, file.bytes)
            sizes[part] = PartSize(loaded, round(CAST * file.parameters), loaded < 2 * file.parameters)
    work = Work("generate", drawing.width, drawing.height, drawing.rows)
    return _estimate(ImageNeeds((work,), 2, sizes), "offload").peak


def _work(stage: Stage, plan: Plan) -> Work:
    width, height = (stage.detail.size,) * 2 if stage.kind == "detail" else (plan.width, plan.height)
    return Work(stage.kind, width, height, 2 if stage.sampler.cfg > 1 else 1)


def estimates(needs: ImageNeeds) -> tuple[Estimate, ...]:
    """Every mode's estimate, fastest mode first. Moments are called `STAGE text | encode | denoise | decode`."""
    return tuple(_estimate(needs, mode) for mode in MODES)


def _estimate(needs: ImageNeeds, mode: Mode) -> Estimate:
    moments: dict[str, int] = {}
    for work in needs.works:
        for moment, part, passing in _moments(work, mode):
            held = _held(needs, mode, part) + (UNPACKED if needs.sizes[part].packed else 0)
            name = f"{work.kind} {moment}"
            moments[name] = max(moments.get(name, 0), round(CONTEXT + held + passing * needs.number / 2))
    return Estimate(mode, moments)


def _moments(work: Work, mode: Mode) -> Iterator[tuple[str, str, float]]:
    at_once = work.pixels if mode == "full" else min(work.pixels, TILE * TILE)
    yield "text", "text_encoder", TEXT
    if work.kind != "generate":
        yield "encode", "vae", CODE + ENCODE_PIXEL * at_once
    yield "denoise", "transformer", DENOISE + DENOISE_PIXEL * work.pixels * work.rows
    yield "decode", "vae", CODE + DECODE_PIXEL * at_once


def _held(needs: ImageNeeds, mode: Mode, part: str) -> float:
    """Bytes of weights on the GPU while a part is at work."""
    size = needs.sizes[part]
    if mode == "sequential":
        return min(LAYER * needs.number / 2, size.bytes)
    if mode in ("full", "tiled"):
        return sum(one.bytes for one in needs.sizes.values())
    return size.in_8_bits if mode == "fp8" and part == "transformer" else size.bytes
