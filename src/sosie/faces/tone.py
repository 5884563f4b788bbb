"""The tone of skin: a face and its body brought to one, and what is left of the difference between two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.faces.align import ARCFACE_TEMPLATE
from sosie.faces.colour import Lab, from_lab, to_lab
from sosie.faces.detect import Face, Image8
from sosie.faces.mask import Mask, Pixels, dilated, face_outline, window_sum
from sosie.faces.skin import cheeks_of, skin_mask

# In face widths, how far skin is taken for the same body's: beside the face (ears), half the neck, and below the chin
# (chest), where it fades away over the last part.
_BESIDE, _NECK, _BELOW, _FADE = 0.42, 0.62, 1.6, 0.6
# Fewer pixels of cheek have no tone.
_LEAST = 24
# Likeness to the cheeks from which a pixel counts as skin, and from which it does fully.
_SKIN = (0.25, 0.65)
# Tones that are as near as this, in L, are one: the light makes more.
_SAME_LIGHT = 4.0
# A colour cast of this distance in (a, b) belongs to the light, not to the skin.
_CAST = 10.0
# Windows of the low frequencies, in face widths.
_LOW = 0.22
# Pixels of skin that a wish for no local difference weighs as much as.
_PRIOR = 0.02


@dataclass(frozen=True, eq=False)
class Toned:
    """A picture's skin in another tone: what to add to its Lab colours, float32 [h, w, 3], and where, 0 to 1 [h, w]."""

    shift: NDArray[np.float32] = field(repr=False)
    where: Mask = field(repr=False)


def tone_of(lab: Lab, face: Face) -> NDArray[np.float64] | None:
    """The tone of a face's skin in Lab: the lighter side's lightness, since shade is no tone; the median chroma."""
    cheeks = lab[cheeks_of(face, (lab.shape[0], lab.shape[1]))]
    if len(cheeks) < _LEAST:
        return None
    return np.array([np.percentile(cheeks[:, 0], 75), *np.median(cheeks[:, 1:], axis=0)])


def usual_tone(portraits: Sequence[Image.Image]) -> NDArray[np.float64] | None:
    """The median tone of a person over faces in several lights, RGB squares as `align` cuts them; None without any."""
    tones = (tone_of(to_lab(np.asarray(image.convert("RGB"))), _aligned(image.width)) for image in portraits)
    found = [tone for tone in tones if tone is not None]
    return np.median(np.stack(found), axis=0) if found else None


def _aligned(size: int) -> Face:
    """The face in an aligned square of `size` px; its box as detectors draw it around such points."""
    points = (ARCFACE_TEMPLATE * (size / 112)).astype(np.float32)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    unit = float(np.linalg.norm(mouth - eyes))
    half = np.array([1.06, 1.39]) * unit
    x, y = eyes + np.array([0.0, 0.33]) * unit - half
    return Face((float(x), float(y), float(2 * half[0]), float(2 * half[1])), points, 1.0)


def recoloured(image: Image8, tone: Toned) -> Image8:
    """The picture, RGB uint8 [h, w, 3], with its skin in that tone."""
    changed = np.clip(np.rint(from_lab(to_lab(image) + tone.shift)), 0, 255).astype(np.uint8)
    return np.where(tone.where[..., np.newaxis] > 0, changed, image)


def toned(lab: Lab, face: Face, tone: NDArray[np.float64]) -> Toned | None:
    """The skin of `face` and of the body around it in another `tone`, with the light that falls on it.

    What differs is moved as a whole, so shade stays shade. A cast of colour that no skin has is the light's and
    stays. None where no skin is seen.
    """
    own, skin = tone_of(lab, face), skin_mask(lab, face)
    if own is None or skin is None:
        return None
    step = tone - own
    step[0] = np.sign(step[0]) * max(0.0, abs(step[0]) - _SAME_LIGHT)
    step[1:] *= np.exp(-float(step[1:] @ step[1:]) / _CAST**2)
    where = body_skin(skin, face)
    # What lies in shade moves less: the light is what makes it dark.
    lit = np.clip(lab[..., 0] / max(1.0, float(own[0])), 0, 1.1)
    return Toned(((where * lit)[..., np.newaxis] * step).astype(np.float32), where)


def body_skin(skin: Mask, face: Face) -> Mask:
    """Which of the `skin` (likeness, float32 [h, w]) belongs to the body of `face`: joined to it and near enough."""
    outline = face_outline(face)
    shape = (skin.shape[0], skin.shape[1])
    distance = outline.distance(shape) / outline.width
    y, x = np.ogrid[: shape[0], : shape[1]]
    dx, dy = x - outline.centre[0], y - outline.centre[1]
    below = (dx * outline.down[0] + dy * outline.down[1]) / outline.width
    aside = np.abs(dx * outline.down[1] - dy * outline.down[0]) / outline.width
    chin = outline.below / outline.width
    # Above the chin to the ears; below it a neck as wide as the face, which widens to the shoulders.
    head = np.clip((_BESIDE - distance) / 0.1, 0, 1)
    neck = np.clip((_NECK + 1.5 * np.maximum(0, below - chin - 0.15) - aside) / 0.1, 0, 1)
    neck *= np.clip((below - 0.3 * chin) / 0.2, 0, 1) * np.clip((chin + _BELOW - below) / _FADE, 0, 1)
    fade = np.maximum(head * np.clip((chin - below) / 0.1 + 1, 0, 1), neck)
    clear = np.clip((skin - _SKIN[0]) / (_SKIN[1] - _SKIN[0]), 0, 1) * fade
    # The face is skin in light and in shade; of its holes only the eyes and the mouth stay, half.
    inner = np.clip((-distance - 0.02) / 0.06, 0, 1) * outline.below_brows(shape)
    clear = np.maximum(clear, inner * (0.5 + 0.5 * clear))
    return (clear * _joined(clear > 0.3, distance < -0.1)).astype(np.float32)


def agreement(wanted: Lab, found: Lab, weights: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """What to add to `found` so that its low frequencies are those of `wanted`, Lab [h, w, 3].

    Both are compared where `weights` [h, w] say that both show the same thing, skin; the difference there is
    spread over the picture, its median where nothing is near. `width` is that of the face, in pixels.
    """
    total = float(weights.sum())
    if total < 16:
        return np.zeros_like(wanted)
    difference = wanted - found
    common = np.array([_weighted_median(difference[..., channel], weights) for channel in range(3)])
    beyond = np.clip(difference - common, -14, 14) * weights[..., np.newaxis]
    radius = max(1, round(_LOW * width / 2))
    mass, spread = np.asarray(weights, dtype=np.float64), beyond
    area = (2 * radius + 1) ** 2
    for _ in range(3):
        mass, spread = window_sum(mass, radius) / area, window_sum(spread, radius) / area
    return common + spread / (mass + _PRIOR)[..., np.newaxis]


def _joined(pixels: Pixels, start: Pixels) -> NDArray[np.float64]:
    """The part of `pixels` that hangs together with `start`, a little grown; found at a small scale."""
    step = max(1, max(pixels.shape) // 96)
    rows, columns = (slice(0, length - length % step) for length in pixels.shape)
    counts = window_sum(pixels, step // 2)[rows, columns][step // 2 :: step, step // 2 :: step]
    small = counts > 0.4 * (2 * (step // 2) + 1) ** 2
    reached = start[rows, columns][step // 2 :: step, step // 2 :: step] & np.ones_like(small)
    while True:
        grown = dilated(reached, 1) & (small | reached)
        if (grown == reached).all():
            break
        reached = grown
    large = np.repeat(np.repeat(dilated(reached, 1), step, axis=0), step, axis=1)
    whole = np.pad(large, [(0, size - length) for size, length in zip(pixels.shape, large.shape, strict=True)], "edge")
    radius = max(1, step)
    return window_sum(whole, radius) / window_sum(np.ones(pixels.shape), radius)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    flat, mass = values.ravel(), weights.ravel()
    order = np.argsort(flat)
    total = np.cumsum(mass[order])
    return float(flat[order][np.searchsorted(total, total[-1] / 2)])
