"""Defects put into images on purpose, and clean images that look as if they had one.

Every function takes and returns uint8 RGB [h,w,3] and depends on its arguments only: a `seed`
gives the same image each time. Amplitudes and sigmas are in levels of 255, lengths in pixels.
Shared by `benchmarks/defects.py` and `tests/test_defects.py`.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import zxingcpp

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]
Profile = Literal["sine", "square", "thin"]


def _clipped(values: npt.NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _add(image: Pixels, field: Field) -> Pixels:
    return _clipped(image.astype(np.float64) + field[..., None])


def _stripes(shape: tuple[int, ...], period: float, angle: float, profile: Profile) -> Field:
    """A wave of range -1 to 1; `thin` is a dark line on 1/6 of the period, one pixel at least."""
    phase = _phase(shape, period, angle, int(period * 97 + angle))
    if profile == "sine":
        return np.sin(2 * np.pi * phase)
    inside = (phase % 1.0) < (0.5 if profile == "square" else max(1 / 6, 1 / period))
    return np.where(inside, -1.0, 1.0 if profile == "square" else 0.0)


def _phase(shape: tuple[int, ...], period: float, angle: float, seed: int) -> Field:
    """Cycles across lines that run at `angle` degrees (0 = horizontal lines), with a random offset."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float64)
    radians = np.deg2rad(angle)
    return (y * np.cos(radians) - x * np.sin(radians)) / period + np.random.default_rng(seed).random()


def lines(image: Pixels, amplitude: float, period: float, angle: float = 0.0, profile: Profile = "sine") -> Pixels:
    """Straight lines over the whole image: 0 degrees horizontal, 90 vertical."""
    return _add(image, amplitude * _stripes(image.shape, period, angle, profile))


def grid(image: Pixels, amplitude: float, period: float, angle: float = 0.0, profile: Profile = "sine") -> Pixels:
    """Crossed lines within the amplitude: thin lines over each other, of other profiles the mean."""
    pair = [_stripes(image.shape, period, angle + turn, profile) for turn in (0.0, 90.0)]
    return _add(image, amplitude * (np.minimum(*pair) if profile == "thin" else (pair[0] + pair[1]) / 2))


def waves(image: Pixels, amplitude: float, period: float, wavelength: float, angle: float = 0.0) -> Pixels:
    """Wavy lines: the direction swings by about 40 degrees to both sides over `wavelength`."""
    across = _phase(image.shape, period, angle, int(period * 89 + wavelength))
    along = _phase(image.shape, wavelength, angle + 90, int(wavelength))
    swing = 0.84 * wavelength / (2 * np.pi * period)
    return _add(image, amplitude * np.sin(2 * np.pi * (across + swing * np.sin(2 * np.pi * along))))


def noise(image: Pixels, sigma: float, seed: int, grain: int = 1) -> Pixels:
    """White noise, the same in the three channels by half; `grain` > 1 makes the grains larger."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    small = rng.normal(size=(-(-height // grain), -(-width // grain), 4))
    field = small[..., 3:] * np.sqrt(0.5) + small[..., :3] * np.sqrt(0.5)
    if grain > 1:
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
        field /= field.std()
    return _clipped(image + sigma * field)


def blank(size: int, colour: tuple[int, int, int], speckle: float = 0.0, seed: int = 0) -> Pixels:
    """One colour, with gaussian speckle if wanted."""
    plain = np.full((size, size, 3), colour, dtype=np.float64)
    return _clipped(plain + np.random.default_rng(seed).normal(0, speckle or 1e-9, (size, size, 1)))


def low_contrast(image: Pixels, factor: float) -> Pixels:
    """Everything drawn to the mean colour: `factor` 1 leaves the image as it is."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return _clipped(mean + factor * (image - mean))


def washed_out(image: Pixels, share: float) -> Pixels:
    """Blurred until only soft blobs are left: sigma is `share` of the width."""
    return cv2.GaussianBlur(image, (0, 0), share * image.shape[1])


def code(image: Pixels, side: int, alpha: float, seed: int, kind: str = "QRCode") -> Pixels:
    """A 2-D code of `side` pixels somewhere in the image, mixed in with `alpha`."""
    rng = np.random.default_rng(seed)
    text = f"https://example.org/{rng.integers(10**6)}"
    barcode = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    symbol = np.array(zxingcpp.write_barcode_to_image(barcode, scale=1))
    return _paste(image, cv2.resize(symbol, (side, side), interpolation=cv2.INTER_NEAREST), alpha, rng)


def blocks(image: Pixels, side: int, cell: int, alpha: float, seed: int) -> Pixels:
    """Random black and white cells: looks like a code, is none."""
    rng = np.random.default_rng(seed)
    count = max(2, side // cell)
    symbol = (rng.random((count, count)) < 0.5).astype(np.uint8) * 255
    return _paste(image, np.kron(symbol, np.ones((cell, cell), np.uint8)), alpha, rng)


def _paste(image: Pixels, symbol: npt.NDArray[np.uint8], alpha: float, rng: np.random.Generator) -> Pixels:
    side = symbol.shape[0]
    top, left = (int(rng.integers(0, max(1, edge - side + 1))) for edge in image.shape[:2])
    out = image.astype(np.float64)
    part = out[top : top + side, left : left + side]
    part[:] = (1 - alpha) * part + alpha * symbol[: part.shape[0], : part.shape[1], None]
    return _clipped(out)


def text(image: Pixels, words: str, height: int, alpha: float, seed: int) -> Pixels:
    """Words of about `height` pixels (capital letters), white or black, at a random place that holds them."""
    rng = np.random.default_rng(seed)
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX]))
    thick = max(1, round(height / 10))
    scale = height / cv2.getTextSize(words, font, 1.0, thick)[0][1]
    (width, tall), _ = cv2.getTextSize(words, font, scale, thick)
    left = int(rng.integers(0, max(1, image.shape[1] - width)))
    top = int(rng.integers(tall, max(tall + 1, image.shape[0] - tall // 2)))
    layer = image.copy()
    grey = int(rng.choice([0, 255]))
    cv2.putText(layer, words, (left, top), font, scale, (grey,) * 3, thick, cv2.LINE_AA)
    return _clipped((1 - alpha) * image + alpha * layer.astype(np.float64))


def beside(first: Pixels, second: Pixels, ratio: float) -> Pixels:
    """The second image, scaled by `ratio`, in the lower right corner of a canvas to the right of the first."""
    height, width = first.shape[:2]
    small = cv2.resize(second, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
    canvas = cv2.copyMakeBorder(first, 0, 0, 0, small.shape[1], cv2.BORDER_REPLICATE)
    canvas[height - small.shape[0] :, width:] = small
    return canvas


def cut(image: Pixels, box: tuple[float, float, float, float], share: float, side: str) -> Pixels:
    """Crops so that `share` of the face box lies outside at `side`; negative leaves that much air."""
    x, y, w, h = box
    height, width = image.shape[:2]
    if side == "left":
        return image[:, max(0, round(x + share * w)) :].copy()
    if side == "right":
        return image[:, : min(width, round(x + w - share * w))].copy()
    if side == "top":
        return image[max(0, round(y + share * h)) :].copy()
    return image[: min(height, round(y + h - share * h))].copy()


def fractal(size: int, seed: int, slope: float = 1.0) -> Pixels:
    """A texture-rich landscape: noise of spectrum 1/f^`slope` in one colour with shades of a second."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    radius = np.maximum(np.hypot(fy, fx), 1 / size)
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) / radius**slope, s=(size, size)) for _ in "ab"]
    relief, tint = ((plane - plane.mean()) / plane.std() for plane in planes)
    colour = rng.uniform(70, 150, 3)
    return _clipped(colour + 34 * relief[..., None] + 10 * tint[..., None] * np.array([1.0, 0.0, -1.0]))


def bricks(size: int, seed: int, figure: bool) -> Pixels:
    """A brick wall, each brick of its own shade, slightly tilted; `figure` puts a person's outline before it."""
    rng = np.random.default_rng(seed)
    tall = size / rng.uniform(10, 26)
    wide, mortar = tall * rng.uniform(2.0, 2.8), tall * rng.uniform(0.1, 0.2)
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    tilt = np.deg2rad(rng.uniform(-3, 3))
    y, x = y * np.cos(tilt) - x * np.sin(tilt) + size, y * np.sin(tilt) + x * np.cos(tilt) + size
    row = np.floor(y / tall).astype(int)
    shifted = x + (row % 2) * wide / 2
    column = np.floor(shifted / wide).astype(int)
    shade = rng.normal(0, 14, (row.max() + 1, column.max() + 1))[row, column]
    joint = (y % tall < mortar) | (shifted % wide < mortar)
    wall = np.where(joint[..., None], [168.0, 160.0, 150.0], np.array([150.0, 74.0, 58.0]) + shade[..., None])
    wall += (fractal(size, seed + 1, 0.8).astype(np.float64).mean(axis=2, keepdims=True) - 110) * 0.15
    pixels = cv2.GaussianBlur(_clipped(wall), (0, 0), 0.6)
    return _with_figure(pixels, rng) if figure else pixels


def _with_figure(wall: Pixels, rng: np.random.Generator) -> Pixels:
    """A head and shoulders in front: smooth shapes over about 40 % of the image."""
    size = wall.shape[0]
    mask = np.zeros((size, size), np.uint8)
    skin = tuple(int(v) for v in rng.uniform([120, 90, 70], [230, 190, 170]))
    cloth = tuple(int(v) for v in rng.uniform(20, 220, 3))
    out = wall.copy()
    for centre, axes, colour in [((0.5, 1.08), (0.46, 0.4), cloth), ((0.5, 0.46), (0.2, 0.28), skin)]:
        where = (int(centre[0] * size), int(centre[1] * size)), (int(axes[0] * size), int(axes[1] * size))
        mask[:] = 0
        cv2.ellipse(mask, where[0], where[1], 0, 0, 360, 255, -1, cv2.LINE_AA)
        share = mask[..., None] / 255.0
        light = np.linspace(1.1, 0.8, size)[None, :, None]
        out = _clipped((1 - share) * out + share * light * np.array(colour))
    return out
