"""The members of a zip archive that a stranger may have made: bounded, plainly named, read and never unpacked blindly.

Source: APPNOTE.TXT of PKWARE.
"""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from sosie.core.errors import BadFileError
from sosie.core.printable import printable
from sosie.files.pickles.bounded import Bounded
from sosie.files.regular import is_regular

MAX_MEMBERS = 2_000
MAX_DIRECTORY = 2**20
"""Longest directory of an archive in bytes; one of 2,000 members has about 200 kB."""

MAX_NAME = 200
"""Longest name of a member in bytes."""

PIECE = 2**20
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LINK, _KIND = 0o120000, 0o170000
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Members:
    """The files in an archive: their sizes in bytes by name, as the archive declares them."""

    path: Path
    sizes: Mapping[str, int]
    _archive: zipfile.ZipFile

    def read(self, name: str, most: int) -> bytes:
        """The content of a member of at most `most` bytes. Raises `BadFileError`."""
        if name not in self.sizes:
            raise BadFileError(f"{self.path} lacks {printable(name)}")
        if self.sizes[name] > most:
            raise BadFileError(
                f"{self.path}: {printable(name)} has {self.sizes[name]:,} bytes; at most {most:,} are read"
            )
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a member, piece by piece: as many bytes as it declares. Raises `BadFileError`."""
        left = self.sizes[name]
        with _as_bad_file(self.path), self._archive.open(name) as stream:
            while left and (piece := stream.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
            if left or stream.read(1):
                raise BadFileError(f"{self.path}: {printable(name)} has another size than the archive declares")


@contextmanager
def open_members(path: Path) -> Generator[Members]:
    """The members of the archive at `path`.

    Raises `BadFileError` for what is no zip archive, has too many members, or one that is encrypted, a link, named
    twice (in any case) or named so that it could leave its folder on any system.
    """
    if not is_regular(path):
        raise BadFileError(f"{path} is no file")
    with path.open("rb") as stream, _opened(path, stream) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise BadFileError(f"{path} has {len(infos):,} members; at most {MAX_MEMBERS:,} are read")
        sizes: dict[str, int] = {}
        seen: set[str] = set()
        for info in infos:
            if trouble := _trouble(info):
                raise BadFileError(f"{path} has a member '{printable(info.orig_filename[:MAX_NAME])}' {trouble}")
            if info.filename.casefold() in seen:
                raise BadFileError(f"{path} has two members with the name '{printable(info.filename)}'")
            seen.add(info.filename.casefold())
            sizes[info.filename] = info.file_size
        yield Members(path, sizes, archive)


def _trouble(info: zipfile.ZipInfo) -> str:
    """Why a member is not read; empty if it is."""
    if info.flag_bits & 1:
        return "that is encrypted"
    if info.compress_type not in _PLAIN:
        return f"that is packed by method {info.compress_type}; expected stored or deflated"
    if info.external_attr >> 16 & _KIND == _LINK:
        return "that is a link"
    return "" if is_plain_name(info.orig_filename) else "whose name is not plain"


def is_plain_name(name: str) -> bool:
    """Whether a relative path with `/` means the same file, below its folder, on every system."""
    parts = name.split("/")
    return (
        len(name.encode(errors="replace")) <= MAX_NAME
        and unicodedata.normalize("NFC", name) == name
        and not any(unicodedata.category(letter)[0] == "C" or letter in '\\:*?"<>|' for letter in name)
        and not any(part.startswith(".") or part.endswith((".", " ")) or not part for part in parts)
        and not any(_DEVICES.fullmatch(part) for part in parts)
    )


def _too_long(size: int) -> Exception:
    return ValueError(f"its directory has {size:,} bytes; at most {MAX_DIRECTORY:,} are read")


@contextmanager
def _opened(path: Path, stream: IO[bytes]) -> Generator[zipfile.ZipFile]:
    with _as_bad_file(path):
        archive = zipfile.ZipFile(cast("IO[bytes]", Bounded(stream, MAX_DIRECTORY, _too_long)))
    with archive:
        yield archive


@contextmanager
def _as_bad_file(path: Path) -> Generator[None]:
    try:
        yield
    except (BadFileError, OSError):
        raise
    # zipfile lets a dozen exception types out of hostile archives (struct.error, NotImplementedError, zlib.error...).
    except Exception as error:
        raise BadFileError(f"{path} is no whole zip archive ({printable(str(error)[:200])})") from None
