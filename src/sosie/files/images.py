"""Reading image files that come from anywhere, safely, and as what they show.

What a file is its content says, not its name. Nothing is decoded before the format is one of those that are read and
the declared size is within the limit, so that a few kilobytes cannot ask for gigabytes. Whatever is wrong with the
file, the answer is one `BadImageError`.
"""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from sosie.core.errors import BadImageError
from sosie.files.colour import ADOBE_RGB, H273, HDR, profile_of, space_of_png, to_srgb
from sosie.files.digest import file_digest
from sosie.files.picture_kinds import AS_PNG, AVIF, HEIC, PNG, READ, TIFF, Kind, kind_of
from sosie.files.png import pixels_of
from sosie.files.regular import open_regular

_EXPECTED = "expected a PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC image"

MAX_PIXELS = 64_000_000
"""What a camera of 61 megapixels makes; read, it takes up to 1 GiB."""

MAX_SIDE = 16_384

MAX_BYTES = 256_000_000
"""Of a file."""

SMALL = 16_000_000
"""Pixels up to which a file may be as short as it likes."""

EMPTY = 100
"""Pixels a byte of a larger file, from which on it holds nothing but one colour; photographs have 1 to 40."""

MUCH_TEXT = 65_536
"""Bytes of text in a picture from which on it is said that they were passed over."""

STRIP = 256
"""Rows that are worked on at a time, so that a large picture does not lie in memory in five forms."""

_STDERR = threading.Lock()

_EXIF, _INTEROPERABILITY, _COLOUR_SPACE, _INDEX, _WHITE_IS_ZERO, _DNG = 0x8769, 0xA005, 0xA001, 1, 262, 50706


@dataclass(frozen=True, eq=False)
class Picture:
    """What a file shows: upright 8-bit RGB in sRGB on white, and how opaque it was (L), None where all of it is.

    `notes` say what was done to read it, each as the end of a sentence that begins with the file's name.
    """

    image: Image.Image
    alpha: Image.Image | None = None
    notes: tuple[str, ...] = ()


def true_suffix(path: Path) -> str:
    """How the name of a picture should end, by its content; what its name says where that is not known.

    Raises BadImageError if it cannot be read.
    """
    return _kind(path).suffix or path.suffix.lower()


def image_digest(path: Path) -> str:
    """The SHA-256 of the file's bytes, as hexadecimal; BadImageError if it cannot be read."""
    try:
        return file_digest(path)
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}", "check the path") from error


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image of `read_picture`."""
    return read_picture(path, max_pixels=max_pixels).image


def read_picture(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in `path`.

    Of an animation or a multi-page file the first picture is taken; EXIF orientation is applied; colours become those
    of sRGB, by the file's profile or what else it says of them; 16-bit greyscale is scaled to 8 bit; alpha is
    composited on white; text of any length is passed over. Raises BadImageError for anything that is no such image, is
    damaged or cut short, has samples of 32 bits or Lab colours, or declares more than `max_pixels` pixels, a side of
    more than `MAX_SIDE`, or more than so short a file can hold (checked before anything is decoded).
    """
    kind = _kind(path)
    _expect_readable(path, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_regular(path) as stream:
                if os.fstat(stream.fileno()).st_size > MAX_BYTES:
                    raise BadImageError(f"{path}: has more than {MAX_BYTES:,} bytes", "scale the image down")
                return _decoded(path, kind, stream, max_pixels)
    except BadImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "more than 179 million pixels", max_pixels) from error
    # Pillow's decoders let a dozen exception types out of hostile files (struct.error, IndexError, zlib.error...).
    except Exception as error:
        said = "its structure is broken" if isinstance(error, UnidentifiedImageError) else error
        message = f"{path}: the image is damaged or cut short ({said}); expected a complete file"
        raise BadImageError(message, "copy or download it again") from error


def _kind(path: Path) -> Kind:
    if not path.is_file():
        found = "is a folder or a device" if path.exists() else "does not exist"
        raise BadImageError(f"{path}: {found}; {_EXPECTED}", "check the path")
    try:
        return kind_of(path)
    except OSError as error:
        raise BadImageError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}", "check the path") from error


def _expect_readable(path: Path, kind: Kind) -> None:
    """Raises BadImageError for a kind that is not read, here or at all."""
    if not kind.format:
        hint = kind.way or AS_PNG
        if path.suffix.lower() in READ:
            hint = f"the name ends in {path.suffix}, its content does not fit: download it again, or {AS_PNG}"
        raise BadImageError(f"{path}: found {kind.what}; {_EXPECTED}", hint)
    if kind is HEIC and not _opens_heic():
        hint = 'pip install "sosie[heic]", or save it again as JPEG (on an iPhone: Settings, Camera, Most Compatible)'
        raise BadImageError(f"{path}: found {kind.what}, and what reads those is not installed", hint)
    if kind is AVIF and not features.check("avif"):
        message = f"{path}: found {kind.what}, and the Pillow that is installed was built without what reads those"
        raise BadImageError(message, 'pip install --upgrade --only-binary :all: "pillow>=11.3"')


def _opens_heic() -> bool:
    try:
        plugin: Any = importlib.import_module("pi_heif")
    except ImportError:
        return False
    plugin.register_heif_opener()
    return True


def _decoded(path: Path, kind: Kind, stream: IO[bytes], max_pixels: int) -> Picture:
    pixels = pixels_of(stream) if kind is PNG else None
    with Image.open(pixels.stream if pixels else stream, formats=(kind.format,)) as image:
        _refuse_large(path, image.size, max_pixels)
        if kind is TIFF and _DNG in getattr(image, "tag_v2", ()):
            message = f"{path}: found a camera's raw file, in which Sosie could read the preview alone; {_EXPECTED}"
            raise BadImageError(message, "develop it in a photo program and save the picture as PNG or TIFF")
        with _silenced() if kind is TIFF else nullcontext():
            image.load()
        notes: list[str] = []
        if pixels and pixels.text > MUCH_TEXT:
            notes.append(f"has {pixels.text / 1e6:.1f} MB of text beside its pixels, which were not read")
        if pixels and pixels.large_profile:
            notes.append("has a colour profile of more than 16 MB, which was not used: its colours may be wrong")
        primaries, transfer = (pixels.primaries, pixels.transfer) if pixels else _named_space(kind, stream)
        if transfer in HDR:
            notes.append("has the colours of a high dynamic range, which are read as those of a usual picture")
        profile = pixels.profile if pixels else image.info.get("icc_profile")
        if primaries in H273 and (pixels or not profile):
            profile = profile_of(H273[primaries])
        profile = profile or _profile_said(image)
        upright = _upright(path, image)
        whole, alpha = _on_white(upright, profile, notes)
    return Picture(whole, alpha, tuple(notes))


@contextmanager
def _silenced() -> Generator[None]:
    """Libtiff writes to the process's stderr itself what is wrong with a file; Pillow raises it all the same."""
    with _STDERR:
        try:
            kept = os.dup(2)
        except OSError:  # there is no stderr
            yield
            return
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)


def _refuse_large(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels or max(size) > MAX_SIDE:
        raise _too_large(path, f"{width} x {height} pixels", max_pixels)
    if width * height > max(SMALL, EMPTY * path.stat().st_size):
        message = f"{path}: declares {width} x {height} pixels in {path.stat().st_size:,} bytes, which no photo fits in"
        raise BadImageError(message, "scale the image down before using it")


def _too_large(path: Path, found: str, max_pixels: int) -> BadImageError:
    message = f"{path}: declares {found}; expected at most {max_pixels:,} pixels, and {MAX_SIDE:,} a side"
    return BadImageError(message, "scale the image down before using it")


def _named_space(kind: Kind, stream: IO[bytes]) -> tuple[int, int]:
    """The numbers of primaries and transfer in the `colr` box of an AVIF or HEIC file; 0 where there is none."""
    if kind not in (AVIF, HEIC):
        return 0, 0
    stream.seek(0)
    box = stream.read(65_536).partition(b"colrnclx")[2]
    return (int.from_bytes(box[:2], "big"), int.from_bytes(box[2:4], "big")) if len(box) >= 4 else (0, 0)


def _profile_said(image: Image.Image) -> bytes | None:
    """A profile for what a file without one says of its colours: EXIF's Adobe RGB, or a PNG's cHRM and gAMA."""
    if "srgb" in image.info:
        return None
    chromaticity, gamma = image.info.get("chromaticity"), image.info.get("gamma")
    if image.format == "PNG" and (chromaticity is not None or gamma is not None):
        space = space_of_png(chromaticity, gamma)
        return profile_of(space) if space else None
    try:
        exif = image.getexif()
        space_number = exif.get_ifd(_EXIF).get(_COLOUR_SPACE)
        index = str(exif.get_ifd(_INTEROPERABILITY).get(_INDEX, "")).strip("\0 ")
    except Exception:  # a damaged EXIF block says nothing
        return None
    return profile_of(ADOBE_RGB) if space_number == 2 or (space_number == 0xFFFF and index == "R03") else None


def _upright(path: Path, image: Image.Image) -> Image.Image:
    """The picture as it is to be looked at, of 8 bits."""
    turned_white = image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_WHITE_IS_ZERO) == 0
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:
        # The picture is whole and only its EXIF block is damaged: it is used as it is stored.
        image = image.copy()
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)
        grey = np.empty(samples.shape, np.uint8)
        for row in range(0, len(grey), STRIP):
            strip = samples[row : row + STRIP].astype(np.uint32)
            grey[row : row + STRIP] = (strip * 255 + 32767) // 65535
        return Image.fromarray(255 - grey if turned_white else grey)
    if image.mode in ("I", "F", "LAB"):
        message = f"{path}: has pixels of mode {image.mode}; expected grey, RGB or CMYK of 8 or 16 bits"
        raise BadImageError(message, "export it as RGB with 8 bits per channel")
    return image


def _on_white(image: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """The picture in sRGB, on white where it lets something through, and how opaque it is."""
    alpha: Image.Image | None = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if profile:
        colours, name = to_srgb(image if image.mode in ("L", "CMYK") else image.convert("RGB"), profile)
        if name:
            notes.append(f"has the colours of '{name[:60]}', which were converted to sRGB")
    else:
        colours = image.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return colours, None
    notes.append("has transparent parts, which were put on white")
    for top in range(0, colours.height, STRIP):
        box = (0, top, colours.width, min(top + STRIP, colours.height))
        layer = colours.crop(box).convert("RGBA")
        layer.putalpha(alpha.crop(box))
        white = Image.new("RGBA", layer.size, "white")
        colours.paste(Image.alpha_composite(white, layer).convert("RGB"), box)
    return colours, alpha
