"""Images that are too large to be uploaded: written smaller without loss, and references scaled down."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from sosie.engines.comfy.program import Upload

if TYPE_CHECKING:
    from PIL.Image import Image

ROOM = 4096
"""Bytes of a request around the image."""

LEAST = 256
"""Shortest side in pixels of a reference in which faces are still measured well."""

GAIN = 0.75
"""Where a limit is not known, what is sent again has at most this share of the bytes that were too many."""

WIDEST = 16_383
"""Longest side of a WebP image."""


def smaller(upload: Upload, limit: int) -> Upload | None:
    """The upload in a body of at most `limit` bytes (0: not known); None if that cannot be done.

    The same pixels are packed better. References alone are scaled down where that does not do, by one factor that
    is taken from how much is too much: servers measure a face in them, and batch them as squares of one size.
    """
    import PIL.Image

    most = limit - ROOM if limit else int(len(upload.data) * GAIN)
    with PIL.Image.open(BytesIO(upload.data)) as opened:
        image = opened.convert("RGB")
    if max(image.size) > WIDEST:
        return None
    packed = _packed(image)
    if len(packed) > most and upload.is_reference and most > 0:
        factor = 0.9 * (most / len(packed)) ** 0.5
        width, height = (round(side * factor) for side in image.size)
        if min(width, height) < LEAST:
            return None
        packed = _packed(image.resize((width, height), PIL.Image.Resampling.LANCZOS))
    return replace(upload, data=packed) if len(packed) <= most else None


def _packed(image: Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "WEBP", lossless=True, method=4)
    return stream.getvalue()


def size_of(upload: Upload) -> tuple[int, int]:
    """Width and height of an upload's image."""
    import PIL.Image

    with PIL.Image.open(BytesIO(upload.data)) as image:
        return image.size
