"""What a picture file is, told by its first bytes: the name of a file may end in anything, or in nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sosie.files.regular import open_regular

HEAD = 4096
"""Bytes that are looked at."""


@dataclass(frozen=True)
class Kind:
    """What a file is in words, and the ending of its name. `format` is Pillow's, empty for what is not read.

    `way` is what to do with a picture that is not read; empty for what is no picture.
    """

    what: str
    suffix: str = ""
    format: str = ""
    way: str = ""

    @property
    def is_picture(self) -> bool:
        """Whether an image viewer would show it."""
        return bool(self.format or self.way)


AS_PNG = "open it in an image program and save it again as PNG"

PNG = Kind("a PNG image", ".png", "PNG")
JPEG = Kind("a JPEG image", ".jpg", "JPEG")
WEBP = Kind("a WebP image", ".webp", "WEBP")
BMP = Kind("a BMP image", ".bmp", "BMP")
TIFF = Kind("a TIFF image", ".tif", "TIFF")
AVIF = Kind("an AVIF image", ".avif", "AVIF")
HEIC = Kind("a HEIC image", ".heic", "HEIF")
RAW = Kind("a camera's raw file", way="develop it in a photo program and save the picture as PNG or TIFF")
JXL = Kind("a JPEG XL image", way="save it again as PNG: djxl FILE FILE.png")
GIF = Kind("a GIF image", way="it has 256 colours at most: use the original, or save it again as PNG")

_SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89PNG", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (8, b"WEBP", WEBP),
    (8, b"CR\x02\0", RAW),
    (0, b"II*\0", TIFF),
    (0, b"MM\0*", TIFF),
    (0, b"II+\0", TIFF),
    (0, b"MM\0+", TIFF),
    (0, b"FUJIFILMCCD-RAW", RAW),
    (0, b"IIRO", RAW),
    (0, b"IIU\0", RAW),
    (0, b"\xff\x0a", JXL),
    (4, b"JXL \r\n\x87\n", JXL),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (4, b"jP  \r\n\x87\n", Kind("a JPEG 2000 image", way=AS_PNG)),
    (0, b"\xff\x4f\xff\x51", Kind("a JPEG 2000 image", way=AS_PNG)),
    (0, b"8BPS", Kind("a Photoshop document", way="export it from its program as PNG")),
    (0, b"gimp xcf", Kind("a GIMP document", way="export it from its program as PNG")),
    (0, b"v/1\x01", Kind("an OpenEXR image", way=AS_PNG)),
    (0, b"#?RADIANCE", Kind("a Radiance HDR image", way=AS_PNG)),
    (0, b"qoif\0", Kind("a QOI image", way=AS_PNG)),
    (0, b"\0\0\x01\0", Kind("an icon", way=AS_PNG)),
    (0, b"%PDF", Kind("a PDF document")),
    (0, b"\x1aE\xdf\xa3", Kind("a video")),
    (0, b"PAR1", Kind("a Parquet table")),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive")),
    (0, b"PK\x03\x04", Kind("a ZIP archive")),
    (0, b"\x1f\x8b", Kind("a gzip archive")),
    (0, b"SQLite format 3\0", Kind("a database")),
    (0, b"\0\5\x16\7", Kind("what macOS notes beside a file")),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer, not the file itself")),
)

_BRANDS = (
    ({b"avif", b"avis"}, AVIF),
    ({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}, HEIC),
    ({b"crx "}, RAW),
)
"""The brands of an ISO media file (after `ftyp`): what is none of these is a video."""

_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)

READ = {kind.suffix: kind for kind in (PNG, JPEG, WEBP, BMP, TIFF, AVIF, HEIC)} | {
    suffix: kind
    for kind, suffixes in (
        (JPEG, ".jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .mpo"),
        (PNG, ".apng"),
        (BMP, ".dib"),
        (TIFF, ".tiff"),
        (AVIF, ".avifs"),
        (HEIC, ".heif .hif .heics .heifs"),
    )
    for suffix in suffixes.split()
}
"""How the names of pictures end that are read, and what they should be."""

_RAW_ENDINGS = ".dng .nef .nrw .arw .sr2 .srf .cr2 .cr3 .raf .orf .rw2 .pef .srw .3fr .iiq .erf .kdc"
_OTHER_ENDINGS = ".jxl .gif .jp2 .j2k .jpx .psd .xcf .exr .hdr .qoi .svg"
_RAW_SUFFIXES = frozenset(_RAW_ENDINGS.split())
_SYSTEM = frozenset(
    (
        "thumbs.db",
        "desktop.ini",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "icon\r",
        "$recycle.bin",
        "system volume information",
    )
)
_NAMED = frozenset(READ) | _RAW_SUFFIXES | frozenset(_OTHER_ENDINGS.split())


def kind_of_head(head: bytes) -> Kind:
    """What a file that begins so is; `what` is never empty."""
    if not head:
        return Kind("an empty file")
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[place : place + 4] for place in (8, *range(16, end, 4))}
        return next((kind for known, kind in _BRANDS if brands & known), Kind("a video"))
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return kind
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return BMP
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return Kind("an HTML page")
    if re.match(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!doctype svg[^>]*>\s*)*<svg[\s/>]", lowered, re.DOTALL):
        return Kind("an SVG drawing", way="export it from a drawing program as PNG")
    return Kind("data of no known image format" if b"\0" in head else "text")


def kind_of(path: Path) -> Kind:
    """What a regular file is. Raises `OSError` for what cannot be read."""
    with open_regular(path) as stream:
        found = kind_of_head(stream.read(HEAD))
    return RAW if found is TIFF and path.suffix.lower() in _RAW_SUFFIXES else found


def is_named_as_picture(path: Path) -> bool:
    """Whether the name claims that it is a picture, of a kind that is read or not."""
    return path.suffix.lower() in _NAMED


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its content, or claims to be one by its name; it need not be one that is read.

    False for a folder, for what cannot be opened, and for what systems leave beside files (`is_left_by_system`).
    """
    try:
        return (
            path.is_file()
            and not is_left_by_system(path.name)
            and (is_named_as_picture(path) or kind_of(path).is_picture)
        )
    except OSError:
        return False


def pictures_in(folder: Path) -> list[Path]:
    """The pictures (`is_picture`) directly in a folder, by name; none if there is no folder. Raises `OSError`."""
    return sorted(path for path in folder.iterdir() if is_picture(path)) if folder.is_dir() else []


def is_left_by_system(name: str) -> bool:
    """Whether a file or folder is hidden, or one that macOS, Windows or a NAS leave among pictures."""
    return name.startswith((".", "~$", "@eaDir", "__MACOSX")) or name.lower() in _SYSTEM
