"""A picture as it is trained on: scaled and cut to its bucket, with the mask of its face."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.core.errors import BadImageError
from sosie.dataset.check.buckets import BUCKETS
from sosie.dataset.dataset import TrainingImage
from sosie.faces.detect import Face
from sosie.faces.mask import face_mask
from sosie.files.images import read_image

STEP = 32
"""Sides are multiples of this many pixels: eight for the VAE, four for the two halvings inside the UNet."""

MOST_ENLARGED = 4.0
"""A picture that would be enlarged more than this holds nothing to learn; a 1-pixel image is the extreme."""

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels uint8 [h, w, 3] of a bucket's size, and the mask of the face float32 [h, w], 0 to 1, or None.

    `original` is the width and height that the picture was scaled from if that made it larger, else
    those it was scaled to; `crop` is left and top of what was cut away, in scaled pixels.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.float32] | None
    original: Size
    crop: Size


def buckets(resolution: int) -> tuple[Size, ...]:
    """The doctor's buckets, scaled so that a square one has the side `resolution`; width and height."""
    scale = resolution / 1024
    return tuple(dict.fromkeys((_side(width * scale), _side(height * scale)) for width, height in BUCKETS))


def _side(length: float) -> int:
    return max(STEP, round(length / STEP) * STEP)


def bucket_of(size: Size, resolution: int) -> Size:
    """The bucket whose aspect ratio is nearest to that of a picture of this width and height."""
    ratio = math.log(size[0] / size[1])
    return min(buckets(resolution), key=lambda each: abs(math.log(each[0] / each[1]) - ratio))


def load_picture(image: TrainingImage, resolution: int, least: int = 0) -> Picture:
    """The picture in its bucket: it covers it, and what does not fit is cut off both sides alike.

    With `least` a picture of fewer pixels than the bucket's has a smaller bucket, down to that resolution, rather than
    being enlarged. The cut moves as far as is needed to keep the whole face. BadImageError for a file that is no
    image, or that would be enlarged more than `MOST_ENLARGED` times.
    """
    opened = read_image(image.path)
    if least:
        own = math.isqrt(opened.width * opened.height) // 64 * 64
        resolution = min(resolution, max(least, own))
    bucket = bucket_of(opened.size, resolution)
    scale = max(bucket[0] / opened.width, bucket[1] / opened.height)
    if scale > MOST_ENLARGED:
        raise BadImageError(
            f"{image.path} has {opened.width} x {opened.height} px and would be enlarged {scale:.0f} times to "
            f"{bucket[0]} x {bucket[1]} px; expected at most {MOST_ENLARGED:g} times",
            "take it out of the dataset, or train at a smaller resolution",
        )
    scaled = (max(bucket[0], round(opened.width * scale)), max(bucket[1], round(opened.height * scale)))
    left, top = (_offset(image.face, axis, scaled[axis] - bucket[axis], scale, bucket[axis]) for axis in (0, 1))
    resized = opened.resize(scaled, Image.Resampling.LANCZOS)
    pixels = np.asarray(resized.crop((left, top, left + bucket[0], top + bucket[1])), np.uint8)
    mask = None if image.face is None else _mask(image.face, scale, (left, top), bucket)
    return Picture(pixels, mask, opened.size if scale > 1 else scaled, (left, top))


def _offset(face: Face | None, axis: int, spare: int, scale: float, side: int) -> int:
    """Where the cut begins on one axis: in the middle, or nearer to the face if that would be cut."""
    start = spare // 2
    if face is not None:
        low, high = face.box[axis] * scale, (face.box[axis] + face.box[axis + 2]) * scale
        start = min(max(start, math.ceil(high) - side), math.floor(low))
    return min(max(start, 0), spare)


def _mask(face: Face, scale: float, cut: Size, bucket: Size) -> NDArray[np.float32]:
    x, y, width, height = face.box
    box = (x * scale - cut[0], y * scale - cut[1], width * scale, height * scale)
    points = ((face.points + 0.5) * scale - 0.5 - np.array(cut)).astype(np.float32)
    return face_mask(Face(box, points, face.confidence), (bucket[1], bucket[0]))
