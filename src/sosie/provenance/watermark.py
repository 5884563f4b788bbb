"""An invisible watermark: 64 bits of a plan's id in the brightness of its picture.

The bits are signs of Fourier coefficients of one square tile, which lies over the whole picture again and again, as
strong as the picture's own texture hides it (spread spectrum with host cancelling: Cox et al. 1997; Malvar and
Florencio 2003). Other coefficients of the tile are the same in every picture; they say where it begins. A reader adds
up the tiles, so a part of the picture is enough, and its bits are compared with plans that are known: the bits of a
plan's id are as good as random, so what a picture without the mark gives can be bounded, whatever it shows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Plane = NDArray[np.float32]
    """Brightness, float32 [h, w], in levels of 0 to 255."""

BITS = 64
TILE = 128
"""Side of the tile in pixels of the delivered picture."""

INNER, OUTER = 5.0, 26.0
"""Waves a tile, between which the mark lies: what scaling to half and JPEG leave."""

SYNC = 0.35
"""Share of the coefficients that are the same in every picture."""

STRENGTH, WEAKEST = 0.42, 0.2
"""The mark's standard deviation in that of the local texture: of a picture of two tiles a side, and the least."""

FAINTEST, STRONGEST = 1.0, 6.0
"""Least and most of what counts as local texture, in levels."""

WINDOW = 15
"""Side of the square over which texture is local."""

SMALLEST = 96
"""Pixels of the shorter side of a picture that is read."""

ALARM = 1e-6
"""At most this often is a picture without a mark taken for one of the known plans."""

SCAN = tuple(0.4 * 1.012**step for step in range(157))
"""Scales, of the shown picture to the delivered one, that are tried where none is known: 0.4 to 2.6."""

_SCANNED, _REFINED = 3 * TILE, 6 * TILE


@dataclass(frozen=True)
class Reading:
    """What was read of a picture: each bit as a number whose sign it is, 64 of them, and how clear the tile stood out.

    `clarity` is the height of the peak that says where the tile begins, in standard deviations; below 6 there is
    mostly none.
    """

    soft: tuple[float, ...]
    clarity: float


@dataclass(frozen=True)
class Match:
    """The plan whose bits a picture carries. `right` of its 64 bits were read right.

    `alarm` bounds how often a picture without a mark would match any of the known plans so well.
    """

    plan_id: str
    right: int
    alarm: float


def mark(image: Image, plan_id: str) -> Image:
    """The picture (RGB or RGBA) with the first 64 bits of the plan's id (hex) in its brightness.

    A mark that is in it is replaced. A picture whose shorter side is below two tiles is marked too, but is seldom read.
    """
    import numpy as np
    from PIL import Image as Pillow

    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    added = _added(_luma(pixels), _bits(plan_id))
    marked = Pillow.fromarray(np.clip(np.rint(pixels + added[..., None]), 0, 255).astype(np.uint8))
    if "A" in image.getbands():
        marked.putalpha(image.getchannel("A"))
    return marked


def find(image: Image, known: Iterable[str], sizes: Sequence[tuple[int, int]] = (), scan: bool = True) -> Match | None:
    """The known plan (64 hex digits) that the picture carries; None if none can be told.

    `sizes` are those of delivered pictures: one that was scaled is brought back to them. With `scan` other scales
    are tried, as of screenshots. Turned, mirrored and cut below a tile a picture is not read.
    """
    import numpy as np

    luma = _luma(np.asarray(image.convert("RGB"), dtype=np.float32))
    if min(luma.shape) < SMALLEST:
        return None
    plans = tuple(dict.fromkeys(known))
    for tried, reading in enumerate(_readings(luma, sizes, scan), 1):
        if match := best_match(reading, plans, tried):
            return match
    return None


def best_match(reading: Reading, known: Sequence[str], tried: int = 1) -> Match | None:
    """The known plan that fits a reading, if a picture without a mark fits so well at most `ALARM` of the time.

    A plan's bits are hash bits, as good as fair coins whatever the picture shows: of a sum of n numbers with random
    signs at most exp(-t^2 / 2) exceed t times its length (Hoeffding 1963); times the plans, and the readings tried.
    """
    import numpy as np

    if not known:
        return None
    soft = np.asarray(reading.soft)
    length = float(np.linalg.norm(soft)) or 1.0
    signs = np.stack([_bits(plan_id) for plan_id in known])
    fits = signs @ soft / length
    place = int(fits.argmax())
    alarm = len(known) * tried * math.exp(-(float(max(fits[place], 0)) ** 2) / 2)
    if alarm > ALARM:
        return None
    return Match(known[place], int((np.sign(soft) == signs[place]).sum()), alarm)


def read(luma: Plane) -> Reading:
    """The bits of a picture in the size in which it was delivered, or of a part of it."""
    import numpy as np

    residual, texture = _residual(luma)
    spectrum = np.fft.rfft2(_folded(np.clip(residual / texture, -3, 3)))
    places, phases, bit = _layout()
    found = spectrum[places[:, 0], places[:, 1]]
    size = np.maximum(np.abs(found), 1e-9)
    found = found / size * np.minimum(size, 2.5 * np.median(size))  # no pattern of the picture outweighs the rest
    same = bit < 0
    sync = np.zeros_like(spectrum)
    sync[places[same, 0], places[same, 1]] = found[same] * np.conj(phases[same])
    surface = np.fft.irfft2(sync, s=(TILE, TILE))
    down, across = np.unravel_index(int(surface.argmax()), surface.shape)
    waves = np.fft.fftfreq(TILE, 1 / TILE)[places[:, 0]] * down + places[:, 1] * across
    voted = (found * np.conj(phases) * np.exp(2j * np.pi * waves / TILE)).real
    soft = np.bincount(bit[~same], weights=voted[~same], minlength=BITS)
    return Reading(tuple(soft.tolist()), float(surface[down, across] / (surface.std() or 1.0)))


def _readings(luma: Plane, sizes: Sequence[tuple[int, int]], scan: bool) -> Iterator[Reading]:
    """As it lies, in the sizes of delivered pictures of the same shape, and where a tile stands out most."""
    yield read(luma)
    height, width = luma.shape
    for wide, high in dict.fromkeys(sizes):
        alike = abs(width * high / (height * wide) - 1) < 0.01
        if alike and (wide, high) != (width, height) and min(wide, high) >= SMALLEST:
            yield read(_scaled(luma, (wide, high)))
    if scan and (scanned := _scanned(luma)) is not None:
        yield scanned


def _scanned(luma: Plane) -> Reading | None:
    """The clearest reading over all scales: of the middle first, then of more of it around the best three."""
    rough = sorted(((_at(luma, scale, _SCANNED), scale) for scale in SCAN), key=_clarity, reverse=True)
    fine = [
        (_at(luma, scale * (1 + change), _REFINED), scale)
        for reading, scale in rough[:3]
        if reading is not None
        for change in (-0.006, -0.003, 0.0, 0.003, 0.006)
    ]
    return max(fine, key=_clarity, default=(None, 0.0))[0]


def _clarity(tried: tuple[Reading | None, float]) -> float:
    return tried[0].clarity if tried[0] else 0.0


def _at(luma: Plane, scale: float, side: int) -> Reading | None:
    """The reading of the middle, at most `side` delivered pixels wide, of a picture shown at `scale`."""
    cut = [min(length, round(side * scale)) for length in luma.shape]
    size = (round(cut[1] / scale), round(cut[0] / scale))
    if min(size) < SMALLEST:
        return None
    top, left = ((length - part) // 2 for length, part in zip(luma.shape, cut, strict=True))
    return read(_scaled(luma[top : top + cut[0], left : left + cut[1]], size))


def _added(luma: Plane, bits: Any) -> Plane:
    """What is added to the brightness: the tile as it is wanted, less what the picture has in its place."""
    import numpy as np

    height, width = luma.shape
    strength = max(WEAKEST, STRENGTH * min(1.0, math.sqrt(2 * TILE / math.sqrt(height * width))))
    residual, texture = _residual(luma)
    places, phases, bit = _layout()
    wanted = phases * np.where(bit < 0, 1, bits[np.maximum(bit, 0)])
    size = strength / float(_tile(wanted).std())
    there = np.fft.rfft2(_folded(residual / texture))[places[:, 0], places[:, 1]]
    there *= np.minimum(1, size / np.maximum(np.abs(there), 1e-9))
    tile = _tile(size * wanted - there)
    repeated = np.tile(tile, (height // TILE + 1, width // TILE + 1))[:height, :width]
    return (repeated * texture).astype(np.float32)


def _residual(luma: Plane) -> tuple[Plane, Plane]:
    """The picture without its slow changes, and the standard deviation of that around each pixel, within bounds."""
    import cv2
    import numpy as np

    slow = cv2.GaussianBlur(luma, (0, 0), 1.2 * TILE / OUTER)
    residual = (luma - slow).astype(np.float32)
    power = cv2.blur(residual * residual, (WINDOW, WINDOW), borderType=cv2.BORDER_REFLECT)
    return residual, np.clip(np.sqrt(np.maximum(power, 0)), FAINTEST, STRONGEST).astype(np.float32)


def _folded(plane: Any) -> Any:
    """The mean of all tiles of a picture; parts of tiles count where they are."""
    import numpy as np

    height, width = plane.shape
    down, across = -(-height // TILE), -(-width // TILE)
    padded = np.zeros((down * TILE, across * TILE), dtype=np.float64)
    counted = np.zeros_like(padded)
    padded[:height, :width], counted[:height, :width] = plane, 1
    shape = (down, TILE, across, TILE)
    return padded.reshape(shape).sum(axis=(0, 2)) / np.maximum(counted.reshape(shape).sum(axis=(0, 2)), 1)


def _tile(coefficients: Any) -> Any:
    import numpy as np

    places, _, _ = _layout()
    spectrum = np.zeros((TILE, TILE // 2 + 1), dtype=np.complex128)
    spectrum[places[:, 0], places[:, 1]] = coefficients
    return np.fft.irfft2(spectrum, s=(TILE, TILE))


@functools.cache
def _layout() -> tuple[Any, Any, Any]:
    """Places [n, 2] of the coefficients in a tile's spectrum, their phases, and whose bit each is (-1: of none).

    Phases and order come from SHA-256, so that no version of any library changes them.
    """
    import hashlib

    import numpy as np

    down, across = np.meshgrid(np.fft.fftfreq(TILE, 1 / TILE), np.arange(TILE // 2 + 1), indexing="ij")
    distance = np.hypot(down, across)
    places = np.argwhere((distance >= INNER) & (distance <= OUTER) & (across > 0))
    drawn = [hashlib.sha256(f"sosie watermark {y} {x}".encode()).digest() for y, x in places.tolist()]
    order = sorted(range(len(places)), key=lambda index: drawn[index])
    turns = np.array([int.from_bytes(drawn[index][8:14], "big") / 2**48 for index in order])
    same = int(len(places) * SYNC)
    bit = np.where(np.arange(len(places)) < same, -1, (np.arange(len(places)) - same) % BITS)
    return places[order], np.exp(2j * np.pi * turns), bit


def _bits(plan_id: str) -> Any:
    """The first 64 bits of a plan's id, as 1 and -1."""
    import numpy as np

    return np.array([1.0 if digit == "1" else -1.0 for digit in f"{int(plan_id[:16], 16):064b}"])


def _luma(pixels: Any) -> Plane:
    import numpy as np

    return np.asarray(pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32), dtype=np.float32)


def _scaled(luma: Plane, size: tuple[int, int]) -> Plane:
    import cv2

    how = cv2.INTER_AREA if size[0] < luma.shape[1] else cv2.INTER_CUBIC
    scaled: Any = cv2.resize(luma, size, interpolation=how)
    return scaled
