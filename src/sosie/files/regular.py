"""Files that people name or write, opened without waiting and read within bounds.

A folder, a pipe, a device, a name that no file can have and a text that is none are told from a file before anything
waits for them or fills the memory. `open_regular` is for what reads a large file in parts.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from sosie.core.errors import BadFileError, NotFoundError

MOST = 8_000_000
"""Bytes of the longest text that a person is expected to have written."""

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

_KINDS = (
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
)


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder; False for names that none can have, where `Path.exists` raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_regular(path: Path) -> bool:
    """As `is_there`, of a regular file or a link to one."""
    return os.path.isfile(path)  # noqa: PTH113


def open_regular(path: Path) -> BufferedReader:
    """A stream of the bytes of a regular file. Raises `OSError` alone, for anything else and for impossible names."""
    try:
        _must_be_regular(path.stat(), path)  # before it is opened: opening a device can do something
        descriptor = os.open(path, _FLAGS)
    except ValueError:  # a NUL, or half a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
    try:
        _must_be_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int = MOST, what: str = "") -> bytes:
    """The bytes of a regular file of at most `most`; `what` says in errors what it is to be ("the prompt file").

    Raises `NotFoundError` where there is none, `BadFileError` for all else that is wrong.
    """
    subject = f"{what} {path}".lstrip()
    try:
        with open_regular(path) as stream:
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{subject} does not exist") from None
    except OSError as error:
        raise BadFileError(f"{subject} cannot be read: {error.strerror or error}") from None
    if len(content) > most:
        raise BadFileError(f"{subject} has more than {most:,} bytes; expected a smaller one")
    return content


def read_text(path: Path, most: int = MOST, what: str = "") -> str:
    """The text of a UTF-8 file, with or without a byte order mark, line ends as they are; else as `read_bytes`."""
    content = read_bytes(path, most, what)
    subject = f"{what} {path}".lstrip()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte {error.object[error.start]:#04x}"
        message = f"{subject} is not UTF-8 text ({kind} in line {line})"
        raise BadFileError(message, "save it as UTF-8 in your editor") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadFileError(f"{subject} is not text: it has a NUL in line {line}")
    return text


def _must_be_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    found = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "is a device")
    number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
    raise OSError(number, f"it {found}, not a file", str(path))
