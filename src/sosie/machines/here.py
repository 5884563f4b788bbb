"""The machine that runs Sosie, as a `Machine`. Folders that somebody else names are not believed.

Only regular files below them that are named as models are, without links that lead out of the folders, are listed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from sosie.core.errors import BadModelError
from sosie.files.regular import open_regular
from sosie.files.suffixes import SUFFIXES
from sosie.machines.facts import MachineFacts, read_machine
from sosie.machines.machine import ByteRange, MachineFile

MAX_ENTRIES = 50_000
"""Most names in the folders that are looked at."""

MAX_DEPTH = 8
"""How deep a file may lie below a folder of models."""


class Here:
    """Keeps the protocol `Machine`. Files are listed as they are now; times are in nanoseconds since 1970."""

    def facts(self, folder: str) -> MachineFacts:
        """As `read_machine`."""
        return read_machine(Path(folder))

    def files(self, folders: Iterable[str]) -> tuple[MachineFile, ...]:
        """By path. Relative folders and the root of a disk are left out; at most `MAX_ENTRIES` names are looked at."""
        roots = {os.path.realpath(path) for path in folders if Path(path).is_absolute()}
        # The root of a disk is no folder of models.
        real = sorted(root for root in roots if root != Path(root).anchor)
        inside = tuple(f"{root}{os.sep}" for root in real)
        found: dict[str, MachineFile] = {}
        for count, path in enumerate(path for root in real for path in _below(root)):
            if count >= MAX_ENTRIES:
                break
            if path not in found and path.lower().endswith(SUFFIXES):
                target = os.path.realpath(path)
                file = _file(path) if target.startswith(inside) and target.lower().endswith(SUFFIXES) else None
                if file:
                    found[path] = file
        return tuple(found.values())

    def read(self, file: MachineFile, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range. Raises `BadModelError` for a file that cannot be read or became shorter."""
        try:
            with open_regular(Path(file.path)) as stream:
                pieces = [_piece(stream, one) for one in ranges]
        except OSError as error:
            raise BadModelError(f"{file.path} cannot be read: {error.strerror or error}") from None
        if any(len(piece) != one.length for piece, one in zip(pieces, ranges, strict=True)):
            raise BadModelError(f"{file.path} became shorter while it was read")
        return pieces


def _below(root: str) -> Iterator[str]:
    """Everything below a folder, links to folders not followed; an empty text for each folder."""
    for place, folders, files in os.walk(root):
        yield ""
        if len(Path(place).parts) - len(Path(root).parts) >= MAX_DEPTH:
            folders.clear()
        for name in files:
            yield f"{place}{os.sep}{name}"


def _file(path: str) -> MachineFile | None:
    """A regular file that may be read; None for anything else."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    is_file = stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)
    return MachineFile(path, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)) if is_file else None


def _piece(stream: BinaryIO, one: ByteRange) -> bytes:
    stream.seek(one.start)
    return stream.read(one.length)
