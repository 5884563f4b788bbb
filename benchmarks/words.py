"""Words, and what looks a little like words, drawn for `benchmarks/glance.py`: nothing here is from a photograph.

Every function draws from the random numbers it is given alone. Images are uint8 RGB [h, w, 3].
"""

# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportAssignmentType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Rng = np.random.Generator

LATIN = "abcdefghijklmnopqrstuvwxyz"
OTHER = ("абвгдежзиклмнопрстуфхцчшщыьэюя", "αβγδεζηθικλμνξοπρστυφχψω")
HERSHEY = (cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX_SMALL)
"""OpenCV's fonts but for those three that `benchmarks/inject.py` writes with, which are for measuring."""


@dataclass(frozen=True)
class Lettering:
    """How words are written: capitals of `least` to `most` px in the fonts of these files, or OpenCV's."""

    fonts: tuple[Path, ...]
    least: float = 8.0
    most: float = 44.0


def words(rng: Rng) -> str:
    """One to three words that mean nothing, of four letters or more together, or a number."""
    kind, count = rng.random(), int(rng.choice([1, 1, 1, 2, 3]))
    if kind < 0.12:
        return "".join(rng.choice(list("0123456789./-: "), int(rng.integers(4, 11)))).strip() or "2417"
    alphabet = LATIN if kind < 0.93 else OTHER[int(rng.integers(2))]
    out: list[str] = []
    for _ in range(count):
        length = int(rng.integers(4 if count == 1 else 3, 11))
        if alphabet == LATIN and rng.random() < 0.7:
            pairs = zip(rng.choice(list("bcdfghklmnprstvwz"), length), rng.choice(list("aeiou"), length), strict=True)
            word = "".join(a + b for a, b in pairs)[:length]
        else:
            word = "".join(rng.choice(list(alphabet), length))
        out.append((word, word.upper(), word.title())[int(rng.integers(3))])
    return (" " if rng.random() < 0.8 else "\n").join(out)


def written(image: Pixels, rng: Rng, how: Lettering) -> tuple[Pixels, Plane, bool]:
    """The image with words somewhere in it, where they are (0 to 1, [h, w]), and whether they can be made out."""
    height = float(np.exp(rng.uniform(np.log(how.least), np.log(how.most))))
    letters = _letters(words(rng), height, rng, how.fonts)
    ink, block = _placed(letters, image.shape[:2], rng)
    colour = _colour(rng)
    opacity = float(rng.choice([1.0, rng.uniform(0.5, 1), rng.uniform(0.15, 0.5)]))
    out = image.astype(np.float32)
    if rng.random() < 0.2:
        shadow = np.roll(ink, (1 + int(height / 20),) * 2, (0, 1)) * opacity * 0.6
        out += shadow[..., None] * (_colour(rng) - out)
    seen = out + (opacity * ink)[..., None] * (colour - out)
    inked = ink > 0.5
    if not inked.any():
        return image, block, False
    contrast = float(np.abs(seen - image)[inked].max(axis=1).mean())
    around = float(image[block > 0.5].astype(np.float32).std(axis=0).mean()) if (block > 0.5).any() else 0.0
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8), block, contrast > max(14.0, 0.5 * around)


def _colour(rng: Rng) -> Plane:
    """White, black, or any."""
    kind = rng.random()
    if kind < 0.6:
        return np.full(3, 255.0 if kind < 0.3 else 0.0, np.float32)
    return np.clip(rng.uniform(0, 255) + rng.normal(0, 50, 3), 0, 255).astype(np.float32)


def _letters(text: str, height: float, rng: Rng, fonts: Sequence[Path]) -> Plane:
    """The words as ink [h, w], 0 to 1, cut close."""
    at = int(rng.integers(len(fonts) + len(HERSHEY) * max(1, len(fonts) // 8)))
    if at >= len(fonts) and text.isascii() and "\n" not in text:
        font = HERSHEY[at % len(HERSHEY)]
        thick = max(1, round(height / rng.uniform(7, 16)))
        scale = height / cv2.getTextSize("H", font, 1.0, thick)[0][1]
        (wide, tall), below = cv2.getTextSize(text, font, scale, thick)
        plane = np.zeros((tall + below + 2 * thick, wide + 2 * thick), np.uint8)
        cv2.putText(plane, text, (thick, tall + thick), font, scale, 255, thick, cv2.LINE_AA)
    else:
        face = _font(fonts[at % len(fonts)], max(6, round(height / 0.72)))
        stroke = int(height / 10) if rng.random() < 0.12 else 0
        left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
            (0, 0), text, face, stroke_width=stroke
        )
        sheet = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
        ImageDraw.Draw(sheet).multiline_text((1 - left, 1 - top), text, 255, face, stroke_width=stroke)
        plane = np.array(sheet)
        if stroke and rng.random() < 0.5:
            plane = cv2.morphologyEx(plane, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    return plane.astype(np.float32) / 255


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def _placed(letters: Plane, shape: tuple[int, ...], rng: Rng) -> tuple[Plane, Plane]:
    """Ink and block of the words, turned and set so that half of them or more is in the picture."""
    tall, wide = letters.shape
    turn = rng.normal(0, 4) if rng.random() < 0.7 else rng.uniform(-45, 45)
    if rng.random() < 0.08:
        turn += rng.choice([90, -90])
    matrix = cv2.getRotationMatrix2D((wide / 2, tall / 2), float(turn), 1.0)
    matrix[0, 1] += rng.normal(0, 0.1)
    reach = [max(0.0, 0.5 * side - 0.3 * min(wide, side)) for side in (shape[1], shape[0])]
    matrix[:, 2] += [
        shape[1] / 2 - wide / 2 + rng.uniform(-reach[0], reach[0]),
        shape[0] / 2 - tall / 2 + rng.uniform(-1, 1) * max(0.0, shape[0] / 2 - tall / 2),
    ]
    size = (shape[1], shape[0])
    ink = cv2.warpAffine(letters, matrix, size, flags=cv2.INTER_LINEAR)
    return ink, cv2.warpAffine(np.ones_like(letters), matrix, size, flags=cv2.INTER_LINEAR)


def spoiled(image: Pixels, rng: Rng) -> Pixels:
    """Blurred, grainy, made smaller or saved as JPEG, or left as it is."""
    kind = rng.random()
    if kind < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.0)))
    elif kind < 0.35:
        image = cv2.addWeighted(image, 1.8, cv2.GaussianBlur(image, (0, 0), 1.2), -0.8, 0)
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(1, 7), (*image.shape[:2], 1))
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    if rng.random() < 0.5:
        levels = rng.uniform(0.6, 1.25, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.6, 1.25))
        image = np.clip(image * levels + rng.uniform(-25, 25), 0, 255).astype(np.uint8)
    return image


def leaves(side: int, rng: Rng) -> Pixels:
    """Shapes of all sizes one over the other, some with cloth, hair, beads or blots on them (dead leaves)."""
    tint = rng.choice([8.0, 25.0, 60.0])
    colours = np.clip(rng.uniform(10, 245, (int(rng.integers(3, 9)), 1)) + rng.normal(0, tint, (1, 3)), 0, 255)
    colours = np.clip(colours + rng.normal(0, tint, colours.shape), 0, 255)
    image = np.full((side, side, 3), colours[0], np.uint8)
    least = rng.uniform(3, 10)
    for _ in range(int(rng.integers(20, 320))):
        radius = min(least / (1 - rng.random()) ** 0.6, side / 2)
        mask = np.zeros((side, side), np.uint8)
        _shape(mask, rng.uniform(0, side, 2), radius, rng)
        colour = colours[int(rng.integers(len(colours)))] + rng.normal(0, 18, 3)
        if radius > 20 and rng.random() < 0.5:
            patch = cv2.convertScaleAbs(_pattern(side, rng)[..., None] * rng.normal(0, 40, 3) + colour)
            image[mask > 0] = patch[mask > 0]
        else:
            image[mask > 0] = np.clip(colour, 0, 255)
    if rng.random() < 0.6:
        light = np.outer(np.linspace(*rng.uniform(0.6, 1.3, 2), side), np.linspace(*rng.uniform(0.6, 1.3, 2), side))
        image = np.clip(image * light[..., None], 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.6)))


def _shape(mask: Pixels, middle: npt.NDArray[np.float64], radius: float, rng: Rng) -> None:
    x, y = (int(v) for v in middle)
    if rng.random() < 0.5:
        axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.15, 1))))
        cv2.ellipse(mask, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    elif rng.random() < 0.7:
        turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        reach = radius * rng.uniform(0.4, 1.2, len(turns))
        points = np.stack([x + reach * np.cos(turns), y + reach * np.sin(turns)], axis=1)
        cv2.fillPoly(mask, [points.astype(np.int32)], 255, cv2.LINE_AA)
    else:
        turns = np.cumsum(rng.normal(0, 0.4, 8)) + rng.uniform(0, 6.3)
        path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1) * radius * 0.4, axis=0) + middle
        thick = max(1, int(radius * rng.uniform(0.03, 0.2)))
        cv2.polylines(mask, [path.astype(np.int32)], False, 255, thick, cv2.LINE_AA)


def _pattern(side: int, rng: Rng) -> Plane:
    """One of the patterns below, of about -1 to 1."""
    return PATTERNS[int(rng.integers(len(PATTERNS)))](side, rng).astype(np.float32)


def _waves(side: int, rng: Rng) -> Plane:
    """Stripes, checks, rings or herringbone."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    turn, period = rng.uniform(0, np.pi), rng.uniform(3, 26)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bent = u + rng.uniform(0, 4) * np.sin(v / rng.uniform(6, 40))
    first, second = np.sin(2 * np.pi * bent / period), np.sin(2 * np.pi * v / (period * rng.uniform(0.6, 3)))
    made = (first, first * second, np.maximum(first, second), np.where(second > 0, first, np.sin(2 * np.pi * v / 5)))
    plane = made[int(rng.integers(len(made)))]
    return np.sign(plane) if rng.random() < 0.5 else plane


def _hair(side: int, rng: Rng) -> Plane:
    """Strands that run much the same way."""
    plane = np.zeros((side, side), np.float32)
    turn, bend = rng.uniform(0, 6.3), rng.normal(0, 0.15)
    for _ in range(int(rng.integers(40, 260))):
        turns = turn + rng.normal(0, 0.25) + bend * np.arange(14) + np.cumsum(rng.normal(0, 0.1, 14))
        path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * side / 16, 0) + rng.uniform(-0.3, 1.1, 2) * side
        cv2.polylines(plane, [path.astype(np.int32)], False, float(rng.uniform(-1, 1)), int(rng.integers(1, 4)), 16)
    return plane


def _beads(side: int, rng: Rng) -> Plane:
    """Rows of like marks: beads, links, buttons, lace, windows, teeth."""
    plane = np.zeros((side, side), np.float32)
    step = rng.uniform(5, 24)
    size, kind, jitter = step * rng.uniform(0.2, 0.48), int(rng.integers(4)), rng.uniform(0, 0.15) * step
    value = float(rng.choice([-1, 1]))
    for row in range(int(rng.integers(1, 6))):
        start, turn, bend = rng.uniform(0, side, 2), rng.uniform(0, 6.3), rng.normal(0, 0.08)
        turns = turn + bend * np.arange(int(1.5 * side / step))
        path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * step, 0) + start
        for x, y in path + rng.normal(0, jitter + 1e-6, path.shape):
            where, radius = (int(x), int(y)), max(1, int(size))
            if kind == 0:
                cv2.circle(plane, where, radius, value, -1, 16)
            elif kind == 1:
                cv2.circle(plane, where, radius, value, max(1, radius // 3), 16)
            elif kind == 2:
                angle = float(np.rad2deg(turns[0]) + 45 * row)
                cv2.ellipse(plane, where, (radius, max(1, radius // 3)), angle, 0, 360, value, -1, 16)
            else:
                cv2.rectangle(plane, (where[0] - radius, where[1] - radius), (where[0] + radius, where[1]), value, -1)
    return plane


def _blots(side: int, rng: Rng) -> Plane:
    """Random spots of one size, as on print, stone, skin and leaves."""
    fine = rng.normal(0, 1, (side, side)).astype(np.float32)
    sigma = rng.uniform(0.7, 6)
    blurred = cv2.GaussianBlur(fine, (0, 0), float(sigma)) - cv2.GaussianBlur(fine, (0, 0), float(3 * sigma))
    blurred /= max(1e-6, float(blurred.std()))
    return np.tanh(3 * (blurred - rng.uniform(-1, 1))) if rng.random() < 0.5 else blurred * 0.5


def _strokes(side: int, rng: Rng) -> Plane:
    """Short strokes anyhow: twigs, straw, folds, scratches, lashes."""
    plane = np.zeros((side, side), np.float32)
    length, value, thick = rng.uniform(4, 30), float(rng.choice([-1, 1])), int(rng.integers(1, 4))
    for _ in range(int(rng.integers(10, 160))):
        x, y = rng.uniform(0, side, 2)
        turn, reach = rng.uniform(0, 6.3), length * rng.uniform(0.4, 1.6)
        end = (int(x + reach * np.cos(turn)), int(y + reach * np.sin(turn)))
        cv2.line(plane, (int(x), int(y)), end, value, thick, 16)
    return plane


PATTERNS: tuple[Callable[[int, Rng], Plane], ...] = (_waves, _waves, _hair, _beads, _blots, _strokes)
