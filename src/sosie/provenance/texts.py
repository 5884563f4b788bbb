"""Texts that other programs write into pictures: A1111's `parameters`, ComfyUI's `prompt` and `workflow`.

In a PNG they are text chunks. In JPEG and WebP A1111 writes its text as the Exif comment (Exif 3.0, UserComment), and
ComfyUI writes `workflow:{...}` and `prompt:{...}` as Make, Model or one of the descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("parameters", "prompt", "workflow")

MOST_LETTERS = 2_000_000
"""Of a text that is read; the largest published workflows have half a million."""

_EXIF, _COMMENT = 0x8769, 0x9286
_TEXTS = (0x010E, 0x010F, 0x0110, 0x9C9C)
"""ImageDescription, Make, Model, and Windows' comment."""


def texts_in(path: Path) -> dict[str, str]:
    """Those of `NAMES` that a picture holds. No error for what a file is or holds: then there are none."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            found = {name: str(image.info[name]) for name in NAMES if image.info.get(name)}
            found = {**dict(_of_exif(image.getexif())), **found}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}
    return {name: text for name, text in found.items() if len(text) <= MOST_LETTERS}


def _of_exif(exif: Any) -> Iterator[tuple[str, str]]:
    comment = exif.get_ifd(_EXIF).get(_COMMENT, b"")
    if text := _comment(comment):
        yield "parameters", text
    for tag in _TEXTS:
        value = exif.get(tag, "")
        text = value if isinstance(value, str) else ""
        name, colon, rest = text.partition(":")
        if colon and name.lower() in NAMES:
            yield name.lower(), rest.rstrip("\0")


def _comment(value: object) -> str:
    """A UserComment: eight bytes say how the rest is written. UTF-16 is of either order, whatever the file's is."""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return ""
    code, rest = value[:8], value[8:]
    if not code.startswith(b"UNICODE"):
        return rest.decode("utf-8", "replace").strip("\0 ")
    big = rest[0:400:2].count(0) >= rest[1:400:2].count(0)  # of letters of most languages the upper byte is 0
    return rest.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0 ")
