"""A new face brought to its picture: its colours, the light on its skin, two bands, and how like its body it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sosie.faces.colour import Floats, Lab, ciede2000, from_lab, to_lab
from sosie.faces.detect import Face, Image8
from sosie.faces.grain import grain_level, grey_of
from sosie.faces.mask import Mask, Pixels, face_outline, window_sum
from sosie.faces.skin import cheeks_of, skin_mask
from sosie.faces.tone import agreement, body_skin

# The ring's contrast in old and new picture may differ because hair or background were redrawn; a larger ratio is not
# a matter of colour.
_CONTRAST = (0.8, 1.25)
# What is coarse, in face widths, and how much of the mask's edge at either end leaves what is fine alone.
_COARSE, _STEEP = 0.10, 0.25
# Fewer pixels of skin say nothing of its colour.
_LEAST_SKIN = 24


@dataclass(frozen=True)
class Likeness:
    """How a face goes with the skin of its body; None where too little of the body's skin is seen.

    `colour` is CIEDE2000 between their median colours, 0 and up. `grain` and `skin` are the face's noise, and its
    texture (the next octave), over the body's: 1 where both are alike.
    """

    colour: float | None
    grain: float | None
    skin: float | None


def match_colour(source: Image8, new: Image8, ring: Pixels) -> NDArray[np.float64]:
    """`new` in the colours of `source`: sRGB 0 to 255, float64 [h, w, 3].

    Mean and deviation of each channel of CIE Lab are measured in both on the ring just outside the
    mask, where both show the same, and what brings them together there is applied to all of `new`
    (Reinhard et al., "Color transfer between images", 2001). Without a ring `new` stays as it is.
    """
    if not ring.any():
        return new.astype(np.float64)
    wanted, found = to_lab(source[ring]), to_lab(new[ring])
    # One grey level of noise is no contrast to go by.
    ratio = np.clip((wanted.std(axis=0) + 0.5) / (found.std(axis=0) + 0.5), *_CONTRAST)
    return from_lab((to_lab(new) - found.mean(axis=0)) * ratio + wanted.mean(axis=0))


def in_light(under: Lab, new: Lab, mask: Mask, face: Face) -> NDArray[np.float64]:
    """`new` (Lab) with the low frequencies of `under` where both show skin, as sRGB [h, w, 3]."""
    skins = [skin_mask(lab, face) for lab in (under, new)]
    if skins[0] is None or skins[1] is None:
        return from_lab(new)
    weights = skins[0].astype(np.float64) * skins[1] * mask
    added = agreement(under, new, weights, face_outline(face).width)
    # Teeth, the whites of the eyes and hair take part as far as they are coloured by the light alone.
    share = 0.4 + 0.6 * np.clip(2 * skins[1].astype(np.float64), 0, 1)
    return from_lab(new + added * share[..., np.newaxis])


def in_bands(source: Floats, new: Floats, mask: Mask, width: float) -> NDArray[np.float64]:
    """`new` in `source` where `mask` is, in two bands: exactly `source` at mask 0, exactly `new` at mask 1.

    What is coarser than `_COARSE` face widths is mixed by the mask, what is finer by its steeper middle (Burt and
    Adelson, "A multiresolution spline with application to image mosaics", 1983, with two levels). sRGB [h, w, 3].
    """
    difference = np.asarray(new, dtype=np.float64) - source
    radius = max(1, round(_COARSE * width / 2))
    weight = np.ones(mask.shape)
    low = difference
    for _ in range(2):
        low = window_sum(low, radius) / (window_sum(weight, radius))[..., np.newaxis]
    soft = np.asarray(mask, dtype=np.float64)
    steep = np.clip((soft - _STEEP) / (1 - 2 * _STEEP), 0, 1)
    return source + low * soft[..., np.newaxis] + (difference - low) * steep[..., np.newaxis]


def likeness(source: Image8, image: Image8, mask: Mask, face: Face) -> tuple[Likeness, Likeness]:
    """Face against body in `source` and in `image`, a version of it with another face where `mask` is."""
    lab = to_lab(source)
    skin = skin_mask(lab, face)
    if skin is None:
        return Likeness(None, None, None), Likeness(None, None, None)
    shape = (source.shape[0], source.shape[1])
    inside = (mask > 0.98) & ((skin > 0.5) | cheeks_of(face, shape))
    body = (body_skin(skin, face) > 0.5) & (mask < 0.02)
    return _against(source, inside, body), _against(image, inside, body)


def _against(image: Image8, face: Pixels, body: Pixels) -> Likeness:
    if min(np.count_nonzero(face), np.count_nonzero(body)) < _LEAST_SKIN:
        return Likeness(None, None, None)
    lab, grey = to_lab(image), grey_of(image)
    colour = float(ciede2000(np.median(lab[face], axis=0), np.median(lab[body], axis=0)))
    levels = [[grain_level(grey, region, octave) for region in (face, body)] for octave in (0, 1)]
    grain, skin = (one / other if min(one, other) > 0 else None for one, other in levels)
    return Likeness(colour, grain, skin)
