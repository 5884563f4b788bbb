"""A file that is still coming: `NAME.part`, locked, and beside it what is known of it.

The sidecar `NAME.part.json` holds address, validator, size and the SHA-256 of the first bytes that
are on the disk for good. What a killed process leaves is taken up as far as that digest vouches for it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from sosie.core.errors import SosieError
from sosie.files.drafts import PART
from sosie.files.foreign import parse_object
from sosie.files.lock import try_lock
from sosie.files.regular import read_bytes
from sosie.files.whole import give_name, is_private, write_json

MAX_STATE = 100_000
"""Bytes of the longest sidecar that is read."""

CHECKPOINT = 16 * 2**20
CHECKPOINT_SECONDS = 5.0
"""How many bytes, or seconds of a transfer, may be lost by a kill."""

DEAD_SECONDS = 3600.0
"""A part without a sidecar that was not written to for so long is nobody's: Sosie's own have one within seconds."""


@dataclass(frozen=True)
class PartState:
    """What the sidecar holds: `digest` is the SHA-256 of the first `bytes` bytes of the part.

    `validator` is a strong ETag or a Last-Modified date, `size` the bytes of the whole and `sha256`
    its digest, where they are known.
    """

    url: str = ""
    validator: str = ""
    size: int | None = None
    sha256: str = ""
    bytes: int = 0
    digest: str = ""


class LockedError(Exception):
    """Another process holds the part."""


class PartFile:
    """The part of `path`, open and locked. Close it; what is there then stays, unless it is empty.

    Raises `LockedError`, and `OSError` wherever the disk does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = PartState()
        self.done = 0
        """The bytes that are there."""
        self.resumed = False
        """Whether some of them are from an earlier process or an earlier answer."""
        self._file = _open_locked(part_path(path))
        self._hash = hashlib.sha256()
        self._saved = (0, time.monotonic())

    @property
    def sha256(self) -> str:
        """The digest of what is there, 64 hex digits."""
        return self._hash.hexdigest()

    def recall(self, fits: Callable[[PartState], bool]) -> None:
        """Takes up what is there, if `fits` likes its state and its bytes are those that were checked."""
        state = read_state(self.path)
        if state is not None and state.bytes and fits(state):
            found = hashlib.sha256()
            left = state.bytes
            while left and (piece := self._file.read(min(left, 2**20))):
                found.update(piece)
                left -= len(piece)
            if not left and found.hexdigest() == state.digest:
                self.state, self._hash, self.done, self.resumed = state, found, state.bytes, True
        self._file.seek(self.done)
        self._file.truncate()

    def append(self, chunk: bytes) -> bool:
        """Adds bytes; True if it made them safe just now, which it does from time to time."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.done += len(chunk)
        due = self.done - self._saved[0] >= CHECKPOINT or time.monotonic() - self._saved[1] >= CHECKPOINT_SECONDS
        if due:
            self.checkpoint()
        return due

    def checkpoint(self) -> None:
        """The bytes on the disk for good, then the sidecar that vouches for them."""
        self._saved = (self.done, time.monotonic())
        if not self.done:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        state = replace(self.state, bytes=self.done, digest=self.sha256)
        write_json(sidecar_path(self.path), asdict(state))

    def restart(self) -> None:
        """Empty again."""
        self._hash, self.done, self.resumed, self.state = hashlib.sha256(), 0, False, PartState()
        self._saved = (0, time.monotonic())
        sidecar_path(self.path).unlink(missing_ok=True)
        self._file.seek(0)
        self._file.truncate()

    def finish(self) -> None:
        """Gives it its own name, on the disk for good."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if sys.platform == "win32":
            self._file.close()  # an open file cannot be renamed there; elsewhere the lock is held until it has its name
        give_name(part_path(self.path), self.path)
        sidecar_path(self.path).unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Makes what is there safe and lets it go; an empty part is removed. Does nothing after `finish`."""
        if self._file.closed:
            return
        try:
            with suppress(OSError):
                if self.done:
                    self.checkpoint()
                else:
                    part_path(self.path).unlink(missing_ok=True)
                    sidecar_path(self.path).unlink(missing_ok=True)
        finally:
            self._file.close()


def part_path(path: Path) -> Path:
    """Where the part of a file is while it comes."""
    return path.with_name(f"{path.name}{PART}")


def sidecar_path(path: Path) -> Path:
    """Where is written what is known of the part."""
    return path.with_name(f"{path.name}.part.json")


def partial_bytes(path: Path) -> int:
    """The bytes of a broken off download of `path` that a new one can go on from, by its sidecar; 0: none."""
    state = read_state(path)
    part = part_path(path)
    return min(state.bytes, part.stat().st_size) if state is not None and part.is_file() else 0


def read_state(path: Path) -> PartState | None:
    """The sidecar of the part of `path`; None if there is none or it is damaged."""
    try:
        table = parse_object(read_bytes(sidecar_path(path), MAX_STATE))
    except SosieError:
        return None
    kinds: dict[str, tuple[type, ...]] = {
        "url": (str,),
        "validator": (str,),
        "size": (int, type(None)),
        "sha256": (str,),
        "bytes": (int,),
        "digest": (str,),
    }
    if table is None or set(table) != set(kinds) or any(type(table[key]) not in kind for key, kind in kinds.items()):
        return None
    return PartState(**table) if table["bytes"] >= 0 else None


def remove_dead(folder: Path) -> None:
    """Removes the parts in a folder that no process holds and none can go on with: nothing vouches for their bytes."""
    try:
        parts = [Path(entry.path) for entry in os.scandir(folder) if entry.name.endswith(PART) and entry.is_file()]
    except OSError:
        return
    for part in parts:
        path = part.with_suffix("")
        with suppress(OSError, LockedError):
            if not part.name.startswith(".") and read_state(path) is None and _is_old(part):
                with closing(PartFile(path)) as own:
                    own.restart()


def _is_old(part: Path) -> bool:
    return time.time() - part.stat().st_mtime > DEAD_SECONDS


def _open_locked(part: Path) -> IO[bytes]:
    """The part, open for reading and writing and locked; a lock ends with its process, however that ends."""
    mode = 0o600 if is_private(part) else 0o666
    while True:
        stream = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), mode), "r+b")
        if try_lock(stream.fileno()) is False:
            stream.close()
            raise LockedError
        if sys.platform == "win32":
            return stream
        # Another process may have finished or removed the part between the opening and the lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), part.stat()):
                return stream
        stream.close()
