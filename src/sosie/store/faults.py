"""What the disk and SQLite complain of, as a `StoreError`: path, what was expected, what to do."""

from __future__ import annotations

import errno
import shlex
import shutil
import sqlite3
from pathlib import Path

from sosie.core import errors

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_ALMOST_NOTHING = 1 << 18
"""Free bytes below which an I/O error is a full disk: SQLite cannot grow its 32 KiB index then."""


def disk_fault(path: Path, error: OSError) -> errors.StoreError:
    """The `StoreError` for an `OSError` met while `path` was read or written."""
    if error.errno in _FULL:
        return full(path)
    if error.errno in _FORBIDDEN:
        return read_only(path)
    return errors.StoreError(
        f"{path} cannot be used: {error.strerror or error}; expected a folder that can be read and written",
        f"ls -ld {shlex.quote(str(path))}",
    )


def catalogue_fault(path: Path, error: sqlite3.Error) -> errors.StoreError:
    """The `StoreError` for what SQLite said of the catalogue at `path`."""
    # The primary result code is the low byte: https://www.sqlite.org/rescode.html
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or (
        code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _free(path) < _ALMOST_NOTHING
    ):
        return full(path)
    if code == sqlite3.SQLITE_READONLY:
        return read_only(path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return errors.StoreError(
            f"{path} is held by another process; expected it to be free within the waiting time",
            "wait for the other command to end, then run this one again",
        )
    if code == sqlite3.SQLITE_CONSTRAINT:
        return errors.StoreError(
            f"{path} refused a record: {error}; expected every run, plan and render that it names to be stored"
        )
    return errors.StoreError(f"{path} failed: {error}; expected a catalogue that can be read and written")


def full(path: Path) -> errors.StoreError:
    """The disk has no room; whatever was finished before is still there."""
    return errors.StoreError(
        f"{path} cannot be written: the disk is full ({_free(path) / 1e6:.1f} MB free); "
        "expected room for one more image",
        "free some space or use --workspace on another disk, then run the same command again: "
        "what was finished is kept and not done twice",
    )


def read_only(path: Path) -> errors.StoreError:
    """The folder or its file system forbids writing."""
    return errors.StoreError(
        f"{path} cannot be written: it is read-only; expected a folder that this user may write to",
        "make it writable, or use --workspace on another disk",
    )


def damaged(path: Path, said: str) -> errors.StoreError:
    """The catalogue is not SQLite, or broken. Nothing is deleted or moved without the user.

    The images go with the catalogue: beside a new one they would be files that nothing names.
    """
    aside, folder = shlex.quote(str(path.parent / "damaged")), shlex.quote(str(path.parent))
    return errors.StoreError(
        f"{path} is damaged ({said}); expected a SQLite catalogue; nothing was changed",
        f"mkdir {aside} && mv {folder}/{path.name}* {folder}/images {aside}/   # then start anew; "
        f"`sqlite3 {path.name} .recover` may save its rows",
    )


def _free(path: Path) -> int:
    """Free bytes on the disk of the nearest folder of `path` that exists; 0 if it cannot be asked."""
    for folder in (path, *path.parents):
        if folder.exists():
            try:
                return shutil.disk_usage(folder).free
            except OSError:
                return 0
    return 0
