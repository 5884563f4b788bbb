"""The parts of a PNG file that its pixels need, without the text that programs put beside them.

Pillow reads no picture whose text or profile unpacks to more than a megabyte, and workflows are often longer. The
format: PNG, third edition (W3C 2025), section 5.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import IO

MAX_PROFILE = 16_000_000
"""Bytes of the longest colour profile that is unpacked; those of printers have up to 4 MB."""

MAX_NOTE = 65_536
"""Bytes of the longest text that is kept: one that says how the picture is turned."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf", b"IDAT", b"IEND"))
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_TURNED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")


@dataclass(frozen=True)
class Pixels:
    """A PNG without text and profile: a stream of the rest, the ICC profile (None: none, or no good), what was passed.

    `text` is the number of bytes of text as they lie in the file, `large_profile` whether the profile is too long.
    `primaries` and `transfer` are the numbers of ITU-T H.273, if the file says its colours so; else 0.
    """

    stream: BytesIO
    profile: bytes | None = None
    text: int = 0
    large_profile: bool = False
    primaries: int = 0
    transfer: int = 0


def pixels_of(stream: IO[bytes]) -> Pixels:
    """The parts that pixels need. What is damaged is copied as it is: the decoder says what is wrong with it."""
    kept = BytesIO()
    kept.write(stream.read(len(_SIGNATURE)))
    profile: bytes | None = None
    text, large, primaries, transfer = 0, False, 0, 0
    while len(head := stream.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        most = {b"iCCP": MAX_PROFILE, b"cICP": 4, **dict.fromkeys(_TEXTS, MAX_NOTE)}.get(kind, -1)
        if kind not in _PIXELS and length > most:
            stream.seek(length + 4, 1)
            text += length if kind in _TEXTS else 0
            large = large or kind == b"iCCP"
            continue
        content = stream.read(length + 4)
        if kind in _PIXELS or (kind in _TEXTS and content.startswith(_TURNED)):
            kept.write(head + content)
        elif kind in _TEXTS:
            text += length
        elif kind == b"iCCP":
            profile, large = _profile(content[:-4])
        elif kind == b"cICP" and length == 4:
            primaries, transfer = content[0], content[1]
        if kind == b"IEND":
            break
    else:
        kept.write(head)
    kept.seek(0)
    return Pixels(kept, profile, text, large, primaries, transfer)


def _profile(content: bytes) -> tuple[bytes | None, bool]:
    """The unpacked profile of an iCCP chunk, None for a damaged one; and whether it was too long."""
    _, _, packed = content.partition(b"\0")
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(packed[1:], MAX_PROFILE)
    except zlib.error:
        return None, False
    return (None, True) if unpack.unconsumed_tail else (profile, False)
