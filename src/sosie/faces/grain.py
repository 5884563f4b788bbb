"""The grain of a picture: how much there is, and what a new part of it lacks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.faces.colour import Floats
from sosie.faces.detect import Image8
from sosie.faces.mask import Mask, Pixels, dilated, window_sum
from sosie.faces.ring import LEAST_RING, ring_of


def grain(source: Image8, new: Image8 | Floats, mask: Mask, seed: int) -> NDArray[np.float64]:
    """The noise [h, w], in grey levels, that gives the masked part of `new` the grain of `source`.

    That is the ring's or the old face's, whichever has less. Levels are compared in two octaves (`grain_level` at
    full and at half resolution), so that the
    grain of an enlarged picture is coarse too. Only what is missing is added: never less, nothing
    is sharpened or smoothed. The same `seed` gives the same grain; the same for red, green and blue.
    """
    ring, face = ring_of(mask), np.greater(mask, 0.5)
    noise = np.zeros(mask.shape)
    if not ring.any() or np.count_nonzero(face) < LEAST_RING:
        return noise
    # Leaves and cloth have more than any skin; the old face shows how much a face has here.
    regions = (ring, face)
    wanted = [min(grain_level(grey_of(source), region, octave) for region in regions) for octave in (0, 1)]
    found = [grain_level(grey_of(new), face, octave) for octave in (0, 1)]
    missing = [max(0.0, w * w - f * f) for w, f in zip(wanted, found, strict=True)]
    random = np.random.default_rng(seed)
    white = random.standard_normal(mask.shape)
    coarse = _coarse_noise(random, mask.shape)
    # White noise of variance 1 has 1 in the first octave and 1/4 in the second, the coarse one little and 1.
    leak = grain_level(coarse, np.ones(mask.shape, dtype=np.bool_), 0) ** 2
    fine_part = max(0.0, (missing[0] - leak * missing[1]) / (1 - leak / 4))
    coarse_part = max(0.0, missing[1] - fine_part / 4)
    return math.sqrt(fine_part) * white + math.sqrt(coarse_part) * coarse


def grain_level(grey: NDArray[np.float64], region: Pixels, octave: int = 0) -> float:
    """The standard deviation of the noise in `region` of a grey picture [h, w], in its units.

    A second difference in both directions leaves noise and little of the picture (Immerkaer, "Fast
    noise variance estimation", 1996); of the flatter half of the region the median magnitude
    counts, so that hair and edges do not. `octave` 1 looks at the means of 2 x 2 px, at all of
    them, since enlarged grain has a grid of its own. 0 for a region that is too small.
    """
    step = 1 + octave
    if min(grey.shape) < 2 * step + 3:
        return 0.0
    inner = region & ~dilated(~region, step + octave)
    inner = inner[step : step + grey.shape[0] - 2 * step - octave, step : step + grey.shape[1] - 2 * step - octave]
    if np.count_nonzero(inner) < LEAST_RING // 2:
        return 0.0
    if octave:
        grey = (grey[:-1, :-1] + grey[1:, :-1] + grey[:-1, 1:] + grey[1:, 1:]) / 4
    response = _second_difference(_second_difference(grey, step).T, step).T / 6
    smooth = window_sum(grey, 2 * step) / window_sum(np.ones_like(grey), 2 * step)
    down = smooth[2 * step :, step:-step] - smooth[: -2 * step, step:-step]
    right = smooth[step:-step, 2 * step :] - smooth[step:-step, : -2 * step]
    slopes = np.hypot(down, right)[inner]
    flat = np.abs(response[inner])[slopes <= np.median(slopes)]
    return float(np.median(flat)) / 0.6745


def _second_difference(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Along the first axis, `step` rows apart; 2 * `step` rows fewer."""
    return values[: -2 * step] - 2 * values[step:-step] + values[2 * step :]


def grey_of(image: Image8 | Floats) -> NDArray[np.float64]:
    """SRGB [h, w, 3] as grey [h, w]."""
    return np.asarray(image, dtype=np.float64) @ np.array([0.299, 0.587, 0.114])


def _coarse_noise(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Noise [h, w] of about 2 px whose level in the second octave is 1."""
    rows, columns = (length // 2 + 3 for length in shape)
    small = Image.fromarray(random.standard_normal((rows, columns)).astype(np.float32))
    large = np.asarray(small.resize((2 * columns, 2 * rows), Image.Resampling.BICUBIC), dtype=np.float64)
    noise = large[2 : 2 + shape[0], 2 : 2 + shape[1]]
    level = grain_level(noise, np.ones(noise.shape, dtype=np.bool_), 1)
    return noise / level if level > 0 else np.zeros_like(noise)
