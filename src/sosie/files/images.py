"""Reading image files that come from anywhere, safely.

Nothing is decoded before the format is one of five and the declared size is within the limit, so
that a few kilobytes cannot ask for gigabytes. Whatever is wrong with the file, the answer is one
`BadImageError`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sosie.core.errors import BadImageError
from sosie.files.digest import file_digest

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

_EXPECTED = "expected a PNG, JPEG, WebP, BMP or TIFF image"
_RE_EXPORT = "open it in an image program and save it again as PNG"

# First bytes of what people pass by mistake: (offset, bytes, what it is).
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG", "a damaged PNG image"),
    (0, b"\xff\xd8\xff", "a damaged JPEG image"),
    (8, b"WEBP", "a damaged WebP image"),
    (0, b"GIF8", "a GIF image"),
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "a video or HEIF file"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)


def is_image_name(path: Path) -> bool:
    """True if the suffix of `path` is one that `read_image` can open; the file is not read."""
    return path.suffix.lower() in SUFFIXES


def image_digest(path: Path) -> str:
    """The SHA-256 of the file's bytes, as hexadecimal; BadImageError if it cannot be read."""
    try:
        return file_digest(path)
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}", "check the path") from error


def read_image(path: Path, *, max_pixels: int = 100_000_000) -> Image.Image:
    """The picture in `path` as an upright 8-bit RGB image.

    Of an animation or a multi-page file the first picture is taken; EXIF orientation is applied;
    16-bit greyscale is scaled to 8 bit; alpha is composited on white; CMYK is converted without
    colour management. Raises BadImageError for anything that is no such image, is damaged or cut
    short, has samples of 32 bits or Lab colours, or declares more than `max_pixels` pixels (checked before
    anything is decoded; Pillow itself refuses above twice its `MAX_IMAGE_PIXELS`, 179 million).
    """
    if not path.is_file():
        found = "is a folder or a device" if path.exists() else "does not exist"
        raise BadImageError(f"{path}: {found}; {_EXPECTED}", "check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _refuse_large(path, image.size, max_pixels)
                image.load()
                return _upright_rgb(path, image)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(f"{path}: found {_what_it_is(path)}; {_EXPECTED}", _hint(path)) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 179 million pixels", max_pixels) from error
    # Pillow's decoders let a dozen exception types out of hostile files (struct.error, IndexError, zlib.error...).
    except Exception as error:
        message = f"{path}: the image is damaged or cut short ({error}); expected a complete file"
        raise BadImageError(message, "copy or download it again") from error


def _refuse_large(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_large(path, f"{width} x {height} pixels", max_pixels)


def _too_large(path: Path, found: str, max_pixels: int) -> BadImageError:
    message = f"{path}: declares {found}; expected at most {max_pixels:,} pixels"
    return BadImageError(message, "scale the image down before using it")


def _upright_rgb(path: Path, image: Image.Image) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:
        # The picture is whole and only its EXIF block is damaged: it is used as it is stored.
        image = image.copy()
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((samples * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        message = f"{path}: has pixels of mode {image.mode}; expected grey, RGB or CMYK of 8 or 16 bits"
        raise BadImageError(message, "export it as RGB with 8 bits per channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _what_it_is(path: Path) -> str:
    """What the first bytes of a file that is no image say it is."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "an empty file"
    for offset, signature, name in _SIGNATURES:
        if head[offset:].startswith(signature):
            return name
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if b"<svg" in lowered:
        return "an SVG drawing"
    if b"\0" not in head:
        return "text"
    return "data of no known image format"


def _hint(path: Path) -> str:
    if is_image_name(path):
        return f"the name ends in {path.suffix}, its content does not fit: download it again, or {_RE_EXPORT}"
    return _RE_EXPORT
