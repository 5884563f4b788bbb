"""Pictures of what is being drawn, as they are shown: decoded within limits and encoded anew, whoever has sent them."""

from __future__ import annotations

import io

from sosie.core import Preview

MOST_BYTES = 1 << 22
MOST_PIXELS = 1 << 22
LONGEST = 256
"""Pixels of the longer side."""

QUALITY = 75


def small_copy(preview: Preview) -> bytes:
    """A JPEG of a preview, some 10 kB, or nothing if it is no picture or too large."""
    from PIL import Image

    if len(preview.data) > MOST_BYTES:
        return b""
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(preview.data), formats=["JPEG", "PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                return b""
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return b""
    small.thumbnail((LONGEST, LONGEST))
    small.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
