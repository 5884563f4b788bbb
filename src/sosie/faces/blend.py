"""A new face put into the picture: colour and grain of its surroundings, a soft edge, and the seam measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.faces.colour import Floats, ciede2000, from_lab, to_lab
from sosie.faces.crop import Crop, paste, resized
from sosie.faces.detect import Image8
from sosie.faces.mask import Mask, dilated, window_sum

Pixels = NDArray[np.bool_]

# Width of the ring around the mask, as a share of the square root of the mask's area (about the face width).
_RING = 0.15
# A ring of fewer pixels says nothing; colour and grain then stay as they are.
_LEAST_RING = 64
# The ring's contrast in old and new picture may differ because hair or background were redrawn; a larger ratio is not
# a matter of colour.
_CONTRAST = (0.8, 1.25)
# How far from the mask's edge, beyond its feather, colours are averaged for the seam: share of the face width.
_SEAM_WINDOW = 0.04
# A step of the source from which on it is an edge of its own, and the part of the mask's edge that must be without.
_NATURAL_EDGE = 8.0
_LEAST_CONTINUOUS = 0.03
# `Seam.severity` of ten face passes of a 256 px model in which no seam is seen: 1.2 to 4.6; of two in which hair is cut
# off at the mask: 5.9 and 7.4. The ten made lighter or darker by Lab (6, 4, -5) after the match, which is seen: 5.0 to
# 11.5. Of 48 renders blended with a blurred copy of such a colour: matched 0.1 to 1.5, not matched 6.7 to 9.2.
# So `Detail.seam` refuses from 5 on.


@dataclass(frozen=True)
class Seam:
    """The colour step that a mask's edge adds to a picture, in CIEDE2000, 0 and up.

    `mean` is the step that the edge has in common (that of the median Lab change): a face in another
    colour than its neck. `p95` is the 95th percentile of the single points: hair or outline cut off.
    """

    mean: float
    p95: float

    @property
    def severity(self) -> float:
        """One figure for a limit: the larger of `mean` and a fifth of `p95`, since single points differ by content."""
        return max(self.mean, self.p95 / 5)


@dataclass(frozen=True, eq=False)
class Blend:
    """A finished picture, RGB uint8 [h, w, 3], and the seam in it."""

    image: Image8 = field(repr=False)
    seam: Seam


def insert(image: Image8, crop: Crop, pixels: Image8, mask: Mask, seed: int) -> Blend:
    """The whole `image` with `pixels`, a new version of what `crop` shows, in its place.

    `pixels` is RGB uint8 [size, size, 3] and `mask` float32 [size, size], both in the crop's
    pixels; they are scaled to the square's own size, then `blend` decides. What the mask leaves
    out keeps its pixels bit for bit. ValueError for other shapes.
    """
    if mask.shape != (crop.size, crop.size) or pixels.shape != (crop.size, crop.size, 3):
        raise ValueError(f"expected pixels and mask of {crop.size} px, got {pixels.shape} and {mask.shape}")
    if crop.side != crop.size:
        scaled = Image.fromarray(mask).resize((crop.side, crop.side), Image.Resampling.BILINEAR)
        mask = np.clip(np.asarray(scaled, dtype=np.float32), 0, 1)
    blended = blend(crop.region(image), resized(pixels, crop.side), mask, seed)
    return Blend(paste(image, crop, blended.image), blended.seam)


def blend(source: Image8, new: Image8, mask: Mask, seed: int) -> Blend:
    """`new` in `source` where `mask` is, in the colour and with the grain of what surrounds it.

    `source` and `new` are RGB uint8 [h, w, 3], `mask` float32 [h, w] from 0 (source) to 1 (new).
    `seed` (0 or more) decides the grain. ValueError for other shapes or types.
    """
    _check(source, new, mask)
    image = source.copy()
    if mask.any():
        margin = _ring_width(mask) + 2
        rows, columns = (slice(max(0, v.min() - margin), v.max() + margin + 1) for v in np.nonzero(mask))
        old, part = source[rows, columns], mask[rows, columns]
        matched = match_colour(old, new[rows, columns], part)
        matched += grain(old, matched, part, seed)[..., np.newaxis]
        image[rows, columns] = composite(old, matched, part)
    return Blend(image, seam(source, image, mask))


def composite(source: Image8, new: Image8 | Floats, mask: Mask) -> Image8:
    """The mixture source * (1 - mask) + new * mask, rounded: exactly `source` at mask 0, exactly `new` at mask 1."""
    share = np.asarray(mask, dtype=np.float64)[..., np.newaxis]
    mixed = source * (1 - share) + np.asarray(new, dtype=np.float64) * share
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def match_colour(source: Image8, new: Image8, mask: Mask) -> NDArray[np.float64]:
    """`new` in the colours of `source`: sRGB 0 to 255, float64 [h, w, 3].

    Mean and deviation of each channel of CIE Lab are measured in both on the ring just outside the
    mask, where both show the same, and what brings them together there is applied to all of `new`
    (Reinhard et al., "Color transfer between images", 2001). Without a ring `new` stays as it is.
    """
    ring = _ring(mask)
    if not ring.any():
        return new.astype(np.float64)
    wanted, found = to_lab(source[ring]), to_lab(new[ring])
    # One grey level of noise is no contrast to go by.
    ratio = np.clip((wanted.std(axis=0) + 0.5) / (found.std(axis=0) + 0.5), *_CONTRAST)
    return from_lab((to_lab(new) - found.mean(axis=0)) * ratio + wanted.mean(axis=0))


def grain(source: Image8, new: Image8 | Floats, mask: Mask, seed: int) -> NDArray[np.float64]:
    """The noise [h, w], in grey levels, that gives the masked part of `new` the grain of the ring of `source`.

    Levels are compared in two octaves (`grain_level` at full and at half resolution), so that the
    grain of an enlarged picture is coarse too. Only what is missing is added: never less, nothing
    is sharpened or smoothed. The same `seed` gives the same grain; the same for red, green and blue.
    """
    ring, face = _ring(mask), np.greater(mask, 0.5)
    noise = np.zeros(mask.shape)
    if not ring.any() or np.count_nonzero(face) < _LEAST_RING:
        return noise
    wanted = [grain_level(_grey(source), ring, octave) for octave in (0, 1)]
    found = [grain_level(_grey(new), face, octave) for octave in (0, 1)]
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
    if np.count_nonzero(inner) < _LEAST_RING // 2:
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


def seam(source: Image8, image: Image8, mask: Mask) -> Seam:
    """How much the colour step across the mask's edge in `image` differs from that in `source`.

    At every pixel of the edge (mask 0.5) the mean Lab colour just inside the feather is compared
    with that just outside it, in both pictures; outside nothing has changed. Only where `source` goes
    on without an edge (a step below 8) is anything counted: hair, jaw and background that met there
    before hide a seam. 0 if that is so almost all along, or if the mask has no edge in the picture.
    """
    _check(source, image, mask)
    inside = mask >= 0.5
    edge = inside & dilated(~inside, 1)
    if not edge.any():
        return Seam(0.0, 0.0)
    soft = np.count_nonzero((mask > 0.02) & (mask < 0.98)) / np.count_nonzero(edge)
    radius = max(2, math.ceil(soft / 2 + _SEAM_WINDOW * _face_width(mask)))
    rows, columns = (slice(max(0, v.min() - 2 * radius), v.max() + 2 * radius + 1) for v in np.nonzero(edge))
    source, image, mask, edge = source[rows, columns], image[rows, columns], mask[rows, columns], edge[rows, columns]
    core, rest = mask >= 0.98, mask <= 0.02
    edge = edge & dilated(core, radius) & dilated(rest, radius)
    before = to_lab(source)
    outer, old = (_mean_around(before, pixels, radius)[edge] for pixels in (rest, core))
    continuous = ciede2000(old, outer) < _NATURAL_EDGE
    if np.count_nonzero(continuous) <= _LEAST_CONTINUOUS * np.count_nonzero(edge):
        return Seam(0.0, 0.0)
    old, new = old[continuous], _mean_around(to_lab(image), core, radius)[edge][continuous]
    common = np.median(old, axis=0)
    step = float(ciede2000(common + np.median(new - old, axis=0), common))
    return Seam(step, float(np.percentile(ciede2000(new, old), 95)))


def _mean_around(lab: NDArray[np.float64], pixels: Pixels, radius: int) -> NDArray[np.float64]:
    """[h, w, 3]: the mean over those `pixels` that lie in the window around each pixel."""
    weight = window_sum(pixels, radius)
    total = window_sum(lab * pixels[..., np.newaxis], radius)
    return total / np.maximum(weight, 1)[..., np.newaxis]


def _ring(mask: Mask) -> Pixels:
    """The pixels just outside the mask; none if there are too few to measure."""
    covered = mask > 0
    ring = dilated(covered, _ring_width(mask)) & ~covered
    return ring if np.count_nonzero(ring) >= _LEAST_RING else np.zeros_like(ring)


def _ring_width(mask: Mask) -> int:
    return max(2, round(_RING * _face_width(mask)))


def _face_width(mask: Mask) -> float:
    """Half of an ellipse with half axes a and 1.3 a is as wide as the square root of its area, within 1 %."""
    return math.sqrt(float(mask.sum(dtype=np.float64)))


def _grey(image: Image8 | Floats) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64) @ np.array([0.299, 0.587, 0.114])


def _coarse_noise(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Noise [h, w] of about 2 px whose level in the second octave is 1."""
    rows, columns = (length // 2 + 3 for length in shape)
    small = Image.fromarray(random.standard_normal((rows, columns)).astype(np.float32))
    large = np.asarray(small.resize((2 * columns, 2 * rows), Image.Resampling.BICUBIC), dtype=np.float64)
    noise = large[2 : 2 + shape[0], 2 : 2 + shape[1]]
    level = grain_level(noise, np.ones(noise.shape, dtype=np.bool_), 1)
    return noise / level if level > 0 else np.zeros_like(noise)


def _check(source: Image8, new: Image8, mask: Mask) -> None:
    if source.dtype != np.uint8 or new.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise ValueError(f"expected two images uint8 [h, w, 3], got {source.dtype} {source.shape} and {new.dtype}")
    if new.shape != source.shape or mask.shape != source.shape[:2]:
        raise ValueError(f"expected three equal sizes, got {source.shape[:2]}, {new.shape[:2]} and {mask.shape}")
    if not (float(mask.min()) >= 0 and float(mask.max()) <= 1):
        raise ValueError(f"expected a mask from 0 to 1, got {mask.min()} to {mask.max()}")
