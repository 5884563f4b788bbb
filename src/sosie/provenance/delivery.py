"""How an image becomes a file: encoded without its private metadata, and written whole or not at all."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import DeliveryError, UsageError, nearest
from sosie.files.png_writing import encode_png, with_texts
from sosie.files.whole import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
MODES = ("RGB", "RGBA", "L")

_HINTS = {
    errno.ENOSPC: "free some space, or choose another folder",
    getattr(errno, "EDQUOT", -1): "your disk quota is used up: free some space, or choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOENT: "make the folder first, or choose another one",
    errno.EISDIR: "a folder has this name: choose another name",
}


def mime_of(target: Path) -> str:
    """The MIME type that the suffix of `target` asks for; `UsageError` for any other suffix."""
    suffix = target.suffix.lower()
    if suffix not in MIME:
        raise UsageError(f"{target.name}: images are written as .png, .jpg or .webp{nearest(suffix, MIME)}")
    return MIME[suffix]


def encode(image: Image, mime: str, xmp: str = "", parameters: str = "") -> bytes:
    """The image (mode RGB, RGBA or L) as a file: PNG and WebP lossless, JPEG at quality 95 without subsampling.

    Of the metadata that the image carries only its colour profile is kept: comments may hold
    prompts. `xmp` is an XMP packet to put in, `parameters` the text that A1111 reads (PNG only), or empty.
    Raises `UsageError` for another mode.
    """
    allowed = ("RGB", "L") if mime == "image/jpeg" else MODES
    if image.mode not in allowed:
        raise UsageError(
            f"an image of mode {image.mode} cannot be written as {mime} (expected {', '.join(allowed)})",
            "write it as .png" if image.mode in MODES else "convert it to RGB first",
        )
    options: dict[str, Any] = {}
    if "icc_profile" in image.info:
        options["icc_profile"] = image.info["icc_profile"]
    elif mime == "image/png":
        return png_with(encode_png(image), xmp, parameters)
    bare = image.copy()
    bare.info = {}
    if xmp and mime != "image/png":
        options["xmp"] = xmp.encode()
    if mime == "image/jpeg":
        options |= {"quality": 95, "subsampling": 0}
    if mime == "image/webp":
        options |= {"lossless": True, "exact": True}
    buffer = io.BytesIO()
    bare.save(buffer, mime.removeprefix("image/").upper(), **options)
    data = buffer.getvalue()
    return png_with(data, xmp, parameters) if mime == "image/png" else data


def png_with(png: bytes, xmp: str = "", parameters: str = "") -> bytes:
    """A PNG file with an XMP packet and the text that A1111 reads put in, where they are not empty."""
    packet = [("XML:com.adobe.xmp", xmp)] if xmp else []
    return with_texts(png, [("parameters", parameters)] if parameters else [], packet)


def deliver(data: bytes, target: Path) -> None:
    """Writes `data` to `target` (replaced if it exists): after any crash it is the old file or the whole new one.

    Raises `DeliveryError` with the path, the system's reason and a hint; no part file is left.
    """
    try:
        write_whole(target, data)
    except OSError as error:
        raise DeliveryError(
            f"{target} could not be written: {error.strerror or error}",
            _HINTS.get(error.errno or 0, "choose another folder"),
        ) from None
