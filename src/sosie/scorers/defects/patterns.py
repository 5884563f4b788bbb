"""Line patterns over the whole image: straight, slanted, grids, and wavy ones.

A pattern that a generator leaves lies over everything, also over what is calm: skin, sky, a plain
wall. Bricks, shelves and striped shirts are regular too, but stay in their place. So the image is
cut into tiles; in each tile's spectrum (Hann window) the peaks are marked that stand out from
their ring of equal period and from half and double that period along their direction, which an
edge does not. The value is the share of the calm tiles that have the same peak: for `lines` at the
same frequency and direction, for `waves` at the same period in any direction, since the lines of
a wavy pattern turn from tile to tile. Where a face is known, it must have the pattern too.
Longer periods are looked for in the image at half, quarter and eighth of its size.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from sosie.core.score import Score
from sosie.scorers.sample import Sample, luma_of
from sosie.scorers.scorer import Checks, Scale

LINES = Scale("lines", 0.45, "share of the calm tiles", 0.0, 1.0)
WAVES = Scale("waves", 0.52, "share of the calm tiles", 0.0, 1.0)

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

_TILE = 32
_LEVELS = 4
_LEAST = 2 * _TILE
"""A level is measured while its shorter side has this many pixels."""
_WHOLE = 2048
"""Of an image with a longer side than this only the tiles are looked at."""
_ACROSS = 17
"""About this many tiles lie along the longer side, overlapping or apart."""
_CLIP = 14.0
"""The residual is clipped here, in levels, so that strong edges of the scene do not drown a weak pattern."""
_AMPLITUDE = 0.8
"""A weaker peak is not visible, in levels."""
_OVER_RING = 4.0
"""A peak is at least so many times the median magnitude of its ring."""
_OVER_OCTAVE = 1.4
"""A peak is at least so many times the magnitude at 0.6 and 1.6 of its frequency."""
_CALM = 0.3
"""The share of the tiles, the calmest first, in which a pattern must show."""
_FACE_WEIGHT = 3.0
"""A face has detail of its own: a pattern in a third of its tiles counts in full."""
_DOUBT = 2
"""So many tiles without the pattern are added, so that a few tiles alone make no large share."""
_BAND = 1.2
"""Wavy lines of one period spread by this factor to both sides."""


@dataclass(frozen=True)
class Level:
    """The peaks at one size of the image.

    `peaks` [tiles, 32, 17] marks them by frequency (cycles a tile, as in `rfft2`); `calm` and `face` [tiles]
    mark the calm tiles and those whose centre lies in the face, and peaks are looked for in these alone; one pixel
    here is `scale` pixels of the image.
    """

    scale: int
    peaks: Bools
    calm: Bools
    face: Bools

    def shares(self, marks: Bools) -> npt.NDArray[np.float64]:
        """The value of each column of `marks` [tiles, n]: share of the calm tiles, held down by the face's."""
        calm = marks[self.calm].sum(axis=0) / (self.calm.sum() + _DOUBT)
        if not self.face.any():
            return calm
        return np.minimum(calm, _FACE_WEIGHT * marks[self.face].mean(axis=0))


@dataclass(frozen=True)
class Pattern:
    """The strongest pattern: its share, period in pixels, and direction in degrees (0 = horizontal lines)."""

    share: float = 0.0
    period: float = 0.0
    angle: float = 0.0
    crossed: bool = False


def scores(sample: Sample) -> list[Score]:
    """`lines` and `waves`: the share of the calm tiles with one pattern. `waves` sees straight lines too."""
    if min(sample.height, sample.width) < _LEAST:
        why = f"the image is smaller than {_LEAST} pixels"
        return [LINES.unmeasured(why), WAVES.unmeasured(why)]
    found = list(levels(sample))
    straight = max((_straight(level) for level in found), key=lambda pattern: pattern.share)
    wavy = max((_wavy(level) for level in found), key=lambda pattern: pattern.share)
    kind = "a line pattern" if straight.share >= 0.8 * wavy.share else "wavy lines"
    return [
        LINES.score(straight.share, f"{_named(straight)} every {straight.period:.0f} px"),
        WAVES.score(wavy.share, f"{kind} about every {wavy.period:.0f} px"),
    ]


def levels(sample: Sample) -> Iterator[Level]:
    """The peaks at full, half, quarter and eighth size, as far as the image is large enough."""
    if max(sample.height, sample.width) > _WHOLE:
        yield from _levels_in_tiles(sample)
        return
    cv2: Any = importlib.import_module("cv2")
    luma: Any = sample.luma
    for step in range(_LEVELS):
        residual = np.clip(luma - cv2.GaussianBlur(luma, (0, 0), _TILE / 8), -_CLIP, _CLIP)
        apart = _step(luma.shape)
        view = np.lib.stride_tricks.sliding_window_view(residual, (_TILE, _TILE))[::apart, ::apart]
        counts = (view.shape[0], view.shape[1])
        yield _level(view.reshape(-1, _TILE, _TILE), counts, apart, 2**step, sample)
        size = luma.shape[1] // 2, luma.shape[0] // 2
        if min(size) < _LEAST:
            return
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)


def _levels_in_tiles(sample: Sample) -> Iterator[Level]:
    """The same of a large image: only what the tiles see of it is looked at."""
    cv2: Any = importlib.import_module("cv2")
    for level in range(_LEVELS):
        pixels = sample.picture.halved(level)
        if min(pixels.shape[:2]) < _LEAST:
            return
        step = _step(pixels.shape)
        rows, columns = (range(0, side - _TILE + 1, step) for side in pixels.shape[:2])
        tiles = np.empty((len(rows) * len(columns), _TILE, _TILE), np.float32)
        for at, (top, left) in enumerate(product(rows, columns)):
            # The blur reaches so far; at the image's border it mirrors, here as there.
            y, x = max(0, top - _TILE), max(0, left - _TILE)
            luma = luma_of(pixels[y : top + 2 * _TILE, x : left + 2 * _TILE])
            residual = np.clip(luma - cv2.GaussianBlur(luma, (0, 0), _TILE / 8), -_CLIP, _CLIP)
            tiles[at] = residual[top - y : top - y + _TILE, left - x : left - x + _TILE]
        yield _level(tiles, (len(rows), len(columns)), step, 2**level, sample)


def _step(shape: tuple[int, ...]) -> int:
    """From tile to tile, px."""
    return max(_TILE // 4, (max(shape[:2]) - _TILE) // (_ACROSS - 1))


def _level(tiles: Floats, counts: tuple[int, int], step: int, scale: int, sample: Sample) -> Level:
    restless = tiles.std(axis=(1, 2))
    inside: Bools = np.zeros(counts, dtype=np.bool_)
    if sample.main_face is not None:
        left, top, width, height = sample.main_face.box
        rows = _near(counts[0], step, (top + height / 2) / scale, 0.4 * height / scale)
        inside = rows[:, None] & _near(counts[1], step, (left + width / 2) / scale, 0.4 * width / scale)
    calm = restless <= np.quantile(restless, _CALM)
    looked = calm | inside.reshape(-1)
    peaks = np.zeros((len(tiles), *_RADIUS.shape), np.bool_)
    peaks[looked] = _peaks(tiles[looked], scale)
    return Level(scale, peaks, calm, inside.reshape(-1))


def _near(count: int, step: int, centre: float, reach: float) -> Bools:
    """Which of `count` tiles in a row have their middle within `reach` of `centre`."""
    return np.abs(np.arange(count) * step + _TILE / 2 - centre) <= reach


_FY, _FX = np.meshgrid(np.fft.fftfreq(_TILE, 1 / _TILE), np.fft.rfftfreq(_TILE, 1 / _TILE), indexing="ij")
_RADIUS = np.hypot(_FY, _FX)
_RING = np.minimum(np.rint(_RADIUS).astype(int), _TILE // 2)
_WINDOW = np.outer(np.hanning(_TILE + 1)[:-1], np.hanning(_TILE + 1)[:-1]).astype(np.float32)
_LOWEST = 4.0
"""Lower frequencies (cycles a tile) are left to the next level: the window's main lobe is 2 wide."""


def _highest(scale: int) -> float:
    """The highest frequency of a level: up to Nyquist at full size, an octave above the lowest at others."""
    return _TILE / 2 + 0.5 if scale == 1 else 2.2 * _LOWEST


def _peaks(tiles: npt.NDArray[np.floating], scale: int) -> Bools:
    magnitude = np.abs(np.fft.rfft2(tiles * _WINDOW)).astype(np.float32)
    strong = magnitude >= _AMPLITUDE * _WINDOW.sum() / 2
    tile, row, column = np.nonzero(strong & (np.clip(_RADIUS, _LOWEST, _highest(scale)) == _RADIUS))
    # Few are left by each question, so that few octaves are looked up, and few rings need their median.
    lower, upper = (magnitude[tile, down[row, column], across[row, column]] for down, across in _OCTAVES)
    upper = np.where(1.6 * _RADIUS[row, column] > _TILE / 2, 0, upper)
    peaks = np.zeros(magnitude.shape, np.bool_)
    peaks[tile, row, column] = magnitude[tile, row, column] >= _OVER_OCTAVE * np.maximum(lower, upper)
    for radius in range(int(_LOWEST), _TILE // 2 + 1):
        ring, near = np.equal(_RING, radius), abs(_RING - radius) <= 1
        rows = np.flatnonzero((peaks & ring).any(axis=(1, 2)))
        median = np.median(magnitude[rows][:, near], axis=1)
        peaks[rows] &= ~ring | (magnitude[rows] >= (_OVER_RING * median)[:, None, None])
    return peaks


def _scaled(factor: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The indices of `factor` times each frequency, in the same direction."""
    half = _TILE // 2
    row = np.clip(np.rint(_FY * factor), 1 - half, half).astype(np.intp) % _TILE
    return row, np.clip(np.rint(_FX * factor), 0, half).astype(np.intp)


_OCTAVES = _scaled(0.6), _scaled(1.6)


def _straight(level: Level) -> Pattern:
    shares = level.shares(level.peaks.reshape(len(level.peaks), -1))
    down, across = _FY.ravel(), _FX.ravel()
    best = int(shares.argmax())
    share = float(shares[best])
    # The frequency lies between those of the transform: take the middle of the marked ones around the best.
    near = shares * (np.hypot(down - down[best], across - across[best]) < 1.5)
    fy, fx = (float((near * axis).sum()) / max(float(near.sum()), 1e-9) for axis in (down, across))
    radius = max(math.hypot(fy, fx), 1.0)
    aside = (np.abs(fy * down + fx * across) < 0.3 * radius**2) & (np.abs(_RADIUS.ravel() - radius) < 1.5)
    crossed = bool((shares[aside] >= 0.5 * share).any())
    return Pattern(share, level.scale * _TILE / radius, math.degrees(math.atan2(-fx, fy)) % 180, crossed)


def _wavy(level: Level) -> Pattern:
    radii = np.arange(_LOWEST + 0.5, _highest(level.scale) - 0.4, 0.5)
    bands = [(radius / _BAND <= _RADIUS) & (radius * _BAND >= _RADIUS) for radius in radii]
    shares = level.shares(np.stack([level.peaks[:, band].any(axis=1) for band in bands], axis=1))
    best = int(shares.argmax())
    return Pattern(float(shares[best]), level.scale * _TILE / float(radii[best]))


def _named(pattern: Pattern) -> str:
    if pattern.crossed:
        return "a grid"
    for angle, name in ((0, "horizontal lines"), (90, "vertical lines"), (180, "horizontal lines")):
        if math.isclose(pattern.angle, angle, abs_tol=8):
            return name
    return f"lines at about {pattern.angle:.0f} degrees"


SCORER = Checks("patterns", ("cv2",), (LINES, WAVES), scores)
