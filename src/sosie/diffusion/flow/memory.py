"""How much memory of a GPU a flow model needs in each memory mode: an estimate without torch.

Weights count as they are loaded: 16 bits a number, or the file's own bytes where they stay packed. A pass needs memory
for each token of each row of the batch, as attention never holds its square matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sosie.diffusion.memory import CONTEXT, GB, MODES, TILE, Estimate, Mode

CAST = 1.06
"""Bytes of a parameter held in 8 bits: embedders and norms keep 16."""

UNPACKED = 0.25 * GB
"""Bytes of one packed layer's weights as numbers, on their way to a product."""

CODE = 0.15 * GB
DECODE_PIXEL, ENCODE_PIXEL = 3000.0, 1650.0
"""Bytes of a pass of an `AutoencoderKL`: `CODE` always, and for each pixel of what it works on at once."""


SHARE = 0.45
"""Of a pass of the transformer in `sequential`: a layer takes what the one before it has left (measured on Z-Image)."""


@dataclass(frozen=True)
class PartSize:
    """Bytes of a part's weights as they are loaded, and in 8 bits; `packed` if the file's are smaller than 16 bits."""

    bytes: int
    in_8_bits: int
    packed: bool = False


def plain_size(parameters: int, number: int = 2) -> PartSize:
    """Of a part whose file has plain numbers, loaded with `number` bytes each."""
    return PartSize(number * parameters, round(CAST * parameters))


def loaded_size(parameters: int, loaded: int) -> PartSize:
    """Of a part of so many numbers whose file takes `loaded` bytes in memory."""
    return PartSize(loaded, round(CAST * parameters), loaded < 2 * parameters)


@dataclass(frozen=True)
class Passes:
    """Bytes of passes: of the text encoder, of the transformer always and for each pixel of each row of the batch.

    `layer` is the largest layer's weights: what `sequential` holds.
    """

    text: float
    denoise: float
    denoise_pixel: float
    layer: float


@dataclass(frozen=True)
class Work:
    """One stage in the terms of memory: what is drawn at once, in pixels, and the rows (2 under guidance).

    `beside` are pixels of reference images, whose tokens go through the transformer with the picture's.
    """

    kind: str
    width: int
    height: int
    rows: int
    beside: int = 0

    @property
    def pixels(self) -> int:
        """Of one row."""
        return self.width * self.height


@dataclass(frozen=True)
class ImageNeeds:
    """What one image takes. `number` is the bytes of one number in passes: 2, or 4 in fp32.

    `sizes` has the parts `transformer`, `text_encoder` and `vae`.
    """

    works: tuple[Work, ...]
    passes: Passes
    sizes: Mapping[str, PartSize]
    number: int = 2


def estimates(needs: ImageNeeds) -> tuple[Estimate, ...]:
    """Every mode's estimate, fastest mode first. Moments are called `STAGE text | encode | denoise | decode`."""
    return tuple(estimate(needs, mode) for mode in MODES)


def estimate(needs: ImageNeeds, mode: Mode) -> Estimate:
    """One mode's."""
    moments: dict[str, int] = {}
    for work in needs.works:
        for moment, part, passing in _moments(work, needs.passes, mode):
            held = _held(needs, mode, part) + (UNPACKED if needs.sizes[part].packed else 0)
            name = f"{work.kind} {moment}"
            moments[name] = max(moments.get(name, 0), round(CONTEXT + held + passing * needs.number / 2))
    return Estimate(mode, moments)


def _moments(work: Work, passes: Passes, mode: Mode) -> Iterator[tuple[str, str, float]]:
    at_once = work.pixels if mode == "full" else min(work.pixels, TILE * TILE)
    yield "text", "text_encoder", passes.text
    if work.kind != "generate" or work.beside:
        yield "encode", "vae", CODE + ENCODE_PIXEL * at_once
    tokens = (work.pixels + work.beside) * work.rows
    share = SHARE if mode == "sequential" else 1
    yield "denoise", "transformer", share * (passes.denoise + passes.denoise_pixel * tokens)
    yield "decode", "vae", CODE + DECODE_PIXEL * at_once


def _held(needs: ImageNeeds, mode: Mode, part: str) -> float:
    """Bytes of weights on the GPU while a part is at work."""
    size = needs.sizes[part]
    if mode == "sequential":
        return min(needs.passes.layer * needs.number / 2, size.bytes)
    if mode in ("full", "tiled"):
        return sum(one.bytes for one in needs.sizes.values())
    return size.in_8_bits if mode == "fp8" and part == "transformer" else size.bytes
