"""SHA-256 of files and folders, remembered so that a 12 GB file is read once.

The memory is `digests.sqlite` in the cache folder. It holds a file's digest by path and by all that tells whether a
file was changed: size, device and inode, time of modification, which anyone can set back, and of change, which nobody
can. It is optional: where it cannot be written nothing is remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from sosie.core.errors import BadModelError, NotFoundError
from sosie.files.cache import cache_folder
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder

SETTLED_SECONDS = 2.0
"""A file touched less than this ago is not remembered: it could change again within one tick of its clock."""


class Stamp(NamedTuple):
    """What is another one if a file was changed; sizes in bytes, times in nanoseconds."""

    size: int
    modified: int
    changed: int
    device: int
    inode: int


def stamp(path: Path) -> Stamp:
    """The stamp of a file as it is now. Raises `OSError`."""
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes (64 hex digits), read in pieces."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tensors_digest(path: Path) -> str:
    """SHA-256 of what follows the header of a safetensors file, 64 hex digits: AutoV3, by which LoRAs are known.

    Not remembered. Raises `BadModelError` for a file that cannot be read or is no such file.
    """
    try:
        with path.open("rb") as stream:
            begins = 8 + int.from_bytes(stream.read(8), "little")
            if not 8 < begins <= path.stat().st_size:
                raise BadModelError(f"{path} is not a safetensors file")
            stream.seek(begins)
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadModelError(f"{path} cannot be read: {error.strerror or error}") from error


def asset_digest(path: Path) -> str:
    """The digest of a model, 64 hex digits.

    Of a file: the SHA-256 of its bytes. Of a folder: the SHA-256 of its listing, one
    `RELATIVE/PATH NUL DIGEST LF` a file in the order of the paths' bytes; hidden files and folders
    do not count. Links are followed. Raises `NotFoundError` if nothing is there, `BadModelError`
    if something in it cannot be read.
    """
    try:
        if not path.exists():
            raise NotFoundError(f"{path} does not exist")
        with _Memory(cache_folder() / "digests.sqlite") as memory:
            if not path.is_dir():
                return memory.digest(path)
            names = {file.relative_to(path).as_posix(): file for file in _files(path, frozenset())}
            listing = hashlib.sha256()
            for name in sorted(names, key=os.fsencode):
                listing.update(os.fsencode(name) + b"\0" + memory.digest(names[name]).encode() + b"\n")
            return listing.hexdigest()
    except OSError as error:
        raise BadModelError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def _files(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Every file below `folder` that is not hidden; `above` are the folders on the way, by device and inode."""
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        raise BadModelError(f"{folder} is a link to a folder that holds it", "remove the link")
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path, above | {here})
        else:
            yield path


class _Memory:
    """The remembered digests; every failure of the database means only that nothing is remembered."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> _Memory:
        with self._or_without():
            make_folder(self._database.parent)
            self._connection = sqlite3.connect(self._database, timeout=5)
            self._connection.execute("DROP TABLE IF EXISTS digests")  # of earlier versions, without the time of change
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS stamped (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            with self._or_without():
                self._connection.commit()
            self._close()

    def digest(self, path: Path) -> str:
        """The digest of a file, remembered or read now."""
        real = path.resolve()
        if not real.is_file():
            raise BadModelError(f"{path} is not a file, so it has no digest")
        before = stamp(real)
        if (known := self._recall(real, before)) is not None:
            return known
        sha256 = file_digest(real)
        if stamp(real) == before and time.time() - max(before.modified, before.changed) / 1e9 > SETTLED_SECONDS:
            self._remember(real, before, sha256)
        return sha256

    def _recall(self, path: Path, stamp: Stamp) -> str | None:
        found = None
        if self._connection is not None:
            with self._or_without():
                found = self._connection.execute(
                    "SELECT sha256 FROM stamped WHERE path = ? AND stamp = ?", (os.fsencode(path), str(stamp))
                ).fetchone()
        return None if found is None else str(found[0])

    def _remember(self, path: Path, stamp: Stamp, sha256: str) -> None:
        if self._connection is not None:
            with self._or_without():
                self._connection.execute(
                    "INSERT OR REPLACE INTO stamped VALUES (?, ?, ?)", (os.fsencode(path), str(stamp), sha256)
                )

    @contextlib.contextmanager
    def _or_without(self) -> Generator[None, None, None]:
        """On any failure goes on without the database; one that is no database is removed."""
        try:
            yield
        except (sqlite3.OperationalError, OSError):
            self._close()
        except sqlite3.DatabaseError:
            self._close()
            with contextlib.suppress(OSError):
                self._database.unlink()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
