"""A new face put into the picture: colour and grain of its surroundings, a soft edge, and the seam measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sosie.faces.colour import Floats, ciede2000, from_lab, to_lab
from sosie.faces.crop import Crop, moved, patch_of
from sosie.faces.detect import Face, Image8
from sosie.faces.grain import grain
from sosie.faces.mask import Mask, Pixels, dilated, face_outline, window_sum
from sosie.faces.match import Likeness, in_bands, in_light, likeness, match_colour
from sosie.faces.ring import mask_width, ring_of, ring_width
from sosie.faces.skin import skin_mask
from sosie.faces.tone import Toned

# How far from the mask's edge, beyond its feather, colours are averaged for the seam: share of the face width.
_SEAM_WINDOW = 0.04
# A step of the source from which on it is an edge of its own, and the part of the mask's edge that must be without.
_NATURAL_EDGE = 8.0
_LEAST_CONTINUOUS = 0.03
# The colour difference between a face and its neck that light makes; what is more, and was not there before, is a seam.
_USUAL = 6.0
# Likeness from which a pixel is skin, and the part of the edge of what got another tone along which skin must have been
# left as it was: less is a corner at a collar.
_LIKELY, _LEAST_SKIN = 0.5, 0.10
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
    """A finished picture, RGB uint8 [h, w, 3], the seam in it, and face against body before and after."""

    image: Image8 = field(repr=False)
    seam: Seam
    before: Likeness
    after: Likeness


@dataclass(frozen=True, eq=False)
class Insertion:
    """A new face for a picture, all in the picture's own pixels.

    `new` is RGB uint8 [h, w, 3]; `change` float32 [h, w] says where it is drawn anew, from 0 (source) to 1 (new).
    `toned` moves the tone of the skin around it, or is None. `face` is where the face was. `seed` (0 or more)
    decides the grain.
    """

    new: Image8 = field(repr=False)
    change: Mask = field(repr=False)
    face: Face
    seed: int
    toned: Toned | None = None


def insert(image: Image8, crop: Crop, insertion: Insertion) -> Blend:
    """The whole `image` with an insertion whose pixels are those of `crop`, in its place.

    They are brought to the image's own scale, then `blend` decides. What change and tone leave
    out keeps its pixels bit for bit. ValueError for other shapes.
    """
    size = crop.size
    if insertion.change.shape != (size, size) or insertion.new.shape != (size, size, 3):
        found = f"{insertion.new.shape} and {insertion.change.shape}"
        raise ValueError(f"expected pixels and mask of {size} px, got {found}")
    patch = patch_of(crop, image.shape)
    old = image[patch.rows, patch.columns]
    toned = insertion.toned
    if toned is not None:
        shift = np.stack(
            [patch.spread(np.ascontiguousarray(toned.shift[..., channel])) for channel in range(3)], axis=-1
        )
        toned = Toned(shift, patch.mask(toned.where))
    placed = Insertion(
        patch.pixels(insertion.new),
        patch.mask(insertion.change),
        patch.face(insertion.face),
        insertion.seed,
        toned,
    )
    blended = blend(old, placed)
    whole = image.copy()
    whole[patch.rows, patch.columns] = blended.image
    return replace(blended, image=whole)


def blend(source: Image8, insertion: Insertion) -> Blend:
    """The new face in `source`, RGB uint8 [h, w, 3], in the light and with the grain of what surrounds it.

    The low frequencies of its skin become those of the source's, in the tone that the source's skin is given. Then
    the two are mixed in two bands: what is coarse over the whole edge of the mask, what is fine over its middle, so
    that neither a step nor a double outline is seen. ValueError for other shapes or types.
    """
    mask, face = insertion.change, insertion.face
    _check(source, insertion.new, mask)
    image = source.copy()
    where = mask if insertion.toned is None else np.maximum(mask, insertion.toned.where)
    if where.any():
        margin = ring_width(where) + 2
        rows, columns = (slice(max(0, v.min() - margin), v.max() + margin + 1) for v in np.nonzero(where))
        part = mask[rows, columns]
        new = to_lab(match_colour(source[rows, columns], insertion.new[rows, columns], ring_of(part)))
        under = to_lab(source[rows, columns])
        if insertion.toned is not None:
            under += insertion.toned.shift[rows, columns]
        matched = in_light(under, new, part, moved(face, columns.start, rows.start))
        matched += grain(source[rows, columns], matched, part, insertion.seed)[..., np.newaxis]
        old = source[rows, columns].astype(np.float64)
        if insertion.toned is not None:
            old = old + (from_lab(under) - from_lab(to_lab(source[rows, columns])))
        mixed = in_bands(old, matched, part, face_outline(face).width)
        rounded = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        image[rows, columns] = np.where(where[rows, columns, np.newaxis] > 0, rounded, source[rows, columns])
    steps = [seam(source, image, mask, insertion.new)]
    skin = None if where is mask else skin_mask(to_lab(source), face)
    if skin is not None:
        steps.append(seam(source, image, where, among=skin > _LIKELY))
    before, after = likeness(source, image, mask, face)
    if before.colour is not None and after.colour is not None:
        steps.append(Seam(max(0.0, after.colour - max(before.colour, _USUAL)), 0.0))
    return Blend(image, max(steps, key=lambda step: step.severity), before, after)


def composite(source: Image8, new: Image8 | Floats, mask: Mask) -> Image8:
    """The mixture source * (1 - mask) + new * mask, rounded: exactly `source` at mask 0, exactly `new` at mask 1."""
    share = np.asarray(mask, dtype=np.float64)[..., np.newaxis]
    mixed = source * (1 - share) + np.asarray(new, dtype=np.float64) * share
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def seam(source: Image8, image: Image8, mask: Mask, drawn: Image8 | None = None, among: Pixels | None = None) -> Seam:
    """How much the colour step across the mask's edge in `image` differs from that in `source`.

    Where the step is nearer to that of `drawn`, the new picture before it was put in, it is compared with that: a jaw
    with its shadow on the neck is no seam, if it was drawn so. With `among` [h, w] only what lies beside such pixels
    outside the mask is looked at: where the mask ends because the skin does, skin that changed is no seam.

    At every pixel of the edge (mask 0.5) the mean Lab colour just inside the feather is compared
    with that just outside it, in both pictures; what has changed outside is no step. Only where `source` goes
    on without an edge (a step below 8) is anything counted: hair, jaw and background that met there
    before hide a seam. 0 if that is so almost all along, or if the mask has no edge in the picture.
    """
    _check(source, image, mask)
    if drawn is not None:
        _check(source, drawn, mask)
    inside = mask >= 0.5
    edge = inside & dilated(~inside, 1)
    if not edge.any():
        return Seam(0.0, 0.0)
    soft = np.count_nonzero((mask > 0.02) & (mask < 0.98)) / np.count_nonzero(edge)
    radius = max(2, math.ceil(soft / 2 + _SEAM_WINDOW * mask_width(mask)))
    rows, columns = (slice(max(0, v.min() - 2 * radius), v.max() + 2 * radius + 1) for v in np.nonzero(edge))
    source, image, mask, edge = source[rows, columns], image[rows, columns], mask[rows, columns], edge[rows, columns]
    core, rest = mask >= 0.98, mask <= 0.02
    if among is not None:
        rest &= among[rows, columns]
    length = np.count_nonzero(edge)
    edge = edge & dilated(core, radius) & dilated(rest, radius)
    before = to_lab(source)
    outer, old = (_mean_around(before, pixels, radius)[edge] for pixels in (rest, core))
    continuous = ciede2000(old, outer) < _NATURAL_EDGE
    if np.count_nonzero(continuous) <= (_LEAST_CONTINUOUS if among is None else _LEAST_SKIN) * length:
        return Seam(0.0, 0.0)
    after = to_lab(image)
    new = _mean_around(after, core, radius)[edge] - (_mean_around(after, rest, radius)[edge] - outer)
    old, new = old[continuous], new[continuous]
    change = new - old
    if drawn is not None:
        lab = to_lab(drawn[rows, columns])
        inner, beside = (_mean_around(lab, pixels, radius)[edge][continuous] for pixels in (core, rest))
        as_drawn = new - (inner - beside + outer[continuous])
        nearer = ciede2000(old + as_drawn, old) < ciede2000(new, old)
        change = np.where(nearer[:, np.newaxis], as_drawn, change)
    common = np.median(old, axis=0)
    step = float(ciede2000(common + np.median(change, axis=0), common))
    return Seam(step, float(np.percentile(ciede2000(old + change, old), 95)))


def _mean_around(lab: NDArray[np.float64], pixels: Pixels, radius: int) -> NDArray[np.float64]:
    """[h, w, 3]: the mean over those `pixels` that lie in the window around each pixel."""
    weight = window_sum(pixels, radius)
    total = window_sum(lab * pixels[..., np.newaxis], radius)
    return total / np.maximum(weight, 1)[..., np.newaxis]


def _check(source: Image8, new: Image8, mask: Mask) -> None:
    if source.dtype != np.uint8 or new.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
        raise ValueError(f"expected two images uint8 [h, w, 3], got {source.dtype} {source.shape} and {new.dtype}")
    if new.shape != source.shape or mask.shape != source.shape[:2]:
        raise ValueError(f"expected three equal sizes, got {source.shape[:2]}, {new.shape[:2]} and {mask.shape}")
    if not (float(mask.min()) >= 0 and float(mask.max()) <= 1):
        raise ValueError(f"expected a mask from 0 to 1, got {mask.min()} to {mask.max()}")
