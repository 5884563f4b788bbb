"""Where a report goes: a file of its own, never in the place of somebody else's.

The file says by which request it was made (`mark`); so only what the same request made is replaced, whatever
another command, or the user, has put into the folder under the same name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from sosie import __version__
from sosie.files.regular import open_regular
from sosie.files.whole import make_folder, whole_stream

HEAD = 4096
"""The mark stands in the first bytes of a file."""


def mark(asked: str) -> str:
    """What a report's file says of itself; `asked` is a digest of what was asked for."""
    return f"Sosie {__version__}, report {asked}"


def publish(path: Path, asked: str, write: Callable[[IO[bytes]], object]) -> Path:
    """Makes the file `path`, or one with the request in its name if there is another's; returns which.

    `write` must put `mark(asked)` into the beginning. Raises `OSError`.
    """
    make_folder(path.parent)
    own = path.with_stem(f"{path.stem}-{asked[:8]}")
    for _ in range(2):  # the same command may be running twice
        try:
            with whole_stream(path, overwrite=_is_of(path, asked)) as stream:
                write(stream)
        except FileExistsError:
            continue
        return path
    if own.exists() and not _is_of(own, asked):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(own))
    with whole_stream(own) as stream:
        write(stream)
    return own


def _is_of(path: Path, asked: str) -> bool:
    """Whether a file is there and was made by the same request."""
    try:
        with open_regular(path) as stream:
            head = stream.read(HEAD)
    except OSError:
        return False
    return b"Sosie " in head and f", report {asked}".encode() in head
