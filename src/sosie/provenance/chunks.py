"""The chunks of a PNG or WebP file, as far as a check needs them before any library reads the file.

PNG: https://www.w3.org/TR/png-3/#5Chunk-layout; WebP is RIFF: RFC 9649.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sosie.files.regular import open_regular

MAX_CHUNKS = 50_000

_PNG = b"\x89PNG\r\n\x1a\n"


def too_many_chunks(path: Path) -> bool:
    """True for more than `MAX_CHUNKS` chunks: each costs the manifest's reader some 40 microseconds.

    That many hold 400 MB in chunks of 8 kB, the size that libpng writes.
    """
    with open_regular(path) as file:
        return any(count > MAX_CHUNKS for count, _ in enumerate(_chunks(file), 1))


def manifest_chunk_intact(path: Path) -> bool:
    """False if the checksum of a PNG's manifest chunk (`caBX`) is wrong; True for anything else.

    The signature does not cover the manifest's own padding; in a PNG the checksum does.
    """
    with open_regular(path) as file:
        if file.read(8) != _PNG:
            return True
        file.seek(0)
        return all(
            zlib.crc32(b"caBX" + file.read(length)) == int.from_bytes(file.read(4), "big")
            for kind, length in _chunks(file)
            if kind == b"caBX"
        )


def padding_empty(path: Path) -> bool:
    """False if the padding beside a manifest's signature holds anything but zeros; True if there is none.

    The signature cannot cover it: it makes room for the signature. Signers fill it with zeros (C2PA 2.x, 13.2).
    """
    with path.open("rb") as file:
        return all(not any(data[:length]) for part in _manifests(file) for data, length in _paddings(part))


def _paddings(part: bytes) -> Iterator[tuple[bytes, int]]:
    """Each byte string `pad` or `pad2` of CBOR (RFC 8949) in a manifest, and its length."""
    for match in re.finditer(rb"(?:\x63pad|\x64pad2)([\x40-\x5a])", part):
        size = {0x58: 1, 0x59: 2, 0x5A: 4}.get(match[1][0], 0)
        length = int.from_bytes(part[match.end() : match.end() + size], "big") if size else match[1][0] - 0x40
        yield part[match.end() + size : match.end() + size + length], length


def _manifests(file: IO[bytes]) -> Iterator[bytes]:
    """The parts of a PNG, WebP or JPEG file that a manifest lies in."""
    if file.read(2) != b"\xff\xd8":
        file.seek(0)
        yield from (file.read(length) for kind, length in _chunks(file) if kind in (b"caBX", b"C2PA"))
        return
    whole = b""
    # Segments of a JPEG up to its pixels (ITU T.81, B.1.1); a manifest's are APP11, cut at 64 kB (ISO 19566-5).
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        data = file.read(int.from_bytes(head[2:], "big") - 2)
        if head[1] == 0xEB:
            whole += data[8:] if not whole else data[16:]
    yield whole


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Type and length of every chunk, with the file placed at its data; nothing for another format."""
    head = file.read(12)
    png = head[:8] == _PNG
    if not png and (head[:4], head[8:]) != (b"RIFF", b"WEBP"):
        return
    file.seek(8 if png else 12)
    while len(header := file.read(8)) == 8:
        kind = header[4:] if png else header[:4]
        length = int.from_bytes(header[:4], "big") if png else int.from_bytes(header[4:], "little")
        start = file.tell()
        yield kind, length
        file.seek(start + (length + 4 if png else length + length % 2))
