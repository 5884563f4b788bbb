"""Locks between processes, which the system lets go of when their process ends, however it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.05

_depths: dict[tuple[str, int], int] = {}
"""How many times a thread of this process holds a lock, by path and thread."""


class HeldError(Exception):
    """Another process, or another thread, holds the lock."""


def try_lock(descriptor: int) -> bool | None:
    """Whether the open file is this process's own now; None where the file system has no locks."""
    from filelock import lock_descriptor

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None


@contextmanager
def held(path: Path, seconds: float = 0.0) -> Generator[None]:
    """Holds the lock `path`, a file that is made if need be and stays; waits for it up to `seconds`.

    A thread that holds it may take it again. Where the file system has no locks everyone gets it.
    Raises `HeldError`, and `OSError` where no file can be made.
    """
    key = (os.path.abspath(path), threading.get_ident())  # noqa: PTH100 - links may lie on the way
    if key in _depths:
        _depths[key] += 1
        try:
            yield
        finally:
            _depths[key] -= 1
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        end = time.monotonic() + seconds
        while try_lock(descriptor) is False:
            if time.monotonic() >= end:
                raise HeldError(str(path))
            time.sleep(POLL_SECONDS)
        _depths[key] = 1
        try:
            yield
        finally:
            del _depths[key]
    finally:
        os.close(descriptor)
