"""Drafts: hidden files and folders that are locked while their process lives, so that a dead one is known for certain.

`.NAME.XXXXXXXX.part`, eight hex digits; a temporary folder of the system is `sosie-*.part`. The lock is the system's
(`files.lock`); on Windows, where a file that is open cannot be removed, to be open is to be locked.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from sosie.files.lock import try_lock

PART = ".part"
"""How the names of unfinished files end."""

DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.DOTALL)
"""The name of a draft."""

TEMPORARY = "sosie-"

_UNKNOWN_SECONDS = 86400.0
"""How old a draft must be to be removed where no lock says that nobody writes it."""

_swept: set[str] = set()
"""The folders in which this process has looked for dead drafts."""


def sweep(folder: Path) -> None:
    """Removes the drafts in a folder that no process holds; what cannot be removed stays."""
    try:
        drafts = [entry for entry in os.scandir(folder) if DRAFT.fullmatch(entry.name)]
    except OSError:
        return
    for entry in drafts:
        with suppress(OSError):
            _remove_dead(Path(entry.path), entry.is_dir(follow_symlinks=False))


def sweep_once(folder: Path) -> None:
    """As `sweep`, but once a process."""
    if (key := os.path.abspath(folder)) not in _swept:  # noqa: PTH100 - links may lie on the way
        _swept.add(key)
        sweep(folder)


def new_file(path: Path, mode: int) -> tuple[Path, int]:
    """A new draft of the file `path`, in its folder, and the open descriptor that holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return _held(lambda: draft_name(path), lambda part: os.open(part, flags, mode))


def new_folder(path: Path, mode: int) -> tuple[Path, int]:
    """A new draft of the folder `path`, beside it, and the open descriptor that holds it (-1 on Windows)."""

    def make(part: Path) -> int:
        part.mkdir(mode=mode)
        return _opened(part)

    return _held(lambda: draft_name(path), make)


@contextmanager
def temporary_folder() -> Generator[Path]:
    """An empty folder of the system's place for them, for this user alone, gone at the end or after a kill."""
    place = Path(tempfile.gettempdir())
    with suppress(OSError):
        for entry in os.scandir(place):
            is_old = entry.name.startswith(TEMPORARY) and entry.name.endswith(PART)
            if is_old and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_dead(Path(entry.path), True)
    part, descriptor = _held(lambda: Path(tempfile.mkdtemp(PART, TEMPORARY)), _opened)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def draft_name(path: Path) -> Path:
    """A name for a draft of `path` that nothing has."""
    # 60 letters have at most 240 bytes, and a name 255.
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}{PART}")


def _held(choose: Callable[[], Path], make: Callable[[Path], int]) -> tuple[Path, int]:
    part = choose()
    for _ in range(10):
        descriptor = make(part)
        if descriptor < 0 or sys.platform == "win32":
            return part, descriptor
        # Another process may have taken it for dead between the making and the lock.
        with suppress(OSError):
            if try_lock(descriptor) is not False and os.path.samestat(os.fstat(descriptor), part.lstat()):
                return part, descriptor
        os.close(descriptor)
        part = choose()
    raise FileNotFoundError(errno.ENOENT, "what was made vanished at once", str(part))


def _opened(folder: Path) -> int:
    return -1 if sys.platform == "win32" else os.open(folder, os.O_RDONLY)


def _remove_dead(part: Path, is_folder: bool) -> None:
    """Removes a draft that nobody holds."""
    descriptor = None
    try:
        old = time.time() - part.lstat().st_mtime > _UNKNOWN_SECONDS
        if sys.platform != "win32":
            descriptor = os.open(part, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW)
            ours = try_lock(descriptor)
            if ours is False or (ours is None and not old):
                return
        elif is_folder and not old:
            return
        if is_folder:
            shutil.rmtree(part)
        else:
            part.unlink()
    finally:
        if descriptor is not None:
            os.close(descriptor)
