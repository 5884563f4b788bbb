"""Files written whole or not at all.

The bytes go to a hidden file in the folder of the target, reach the disk, and are then renamed: at every moment, and
after any crash, the target is the old file or the new one. Nothing half-written stays but after a kill.
Everything raises `OSError` as the system does; what it means for the user is the caller's to say.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PART = ".part"
"""How the names of unfinished files end."""

_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM})
"""What systems answer where a folder cannot be opened or synced at all; the disk's own failures are others."""


def write_whole(path: Path, content: bytes | str) -> None:
    """Makes or replaces the file `path`; a text is written as UTF-8 with its line ends as they are."""
    with whole_stream(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object, sort_keys: bool = False) -> None:
    """Makes or replaces the file `path` with `value` as readable JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=sort_keys) + "\n"
    write_whole(path, text.encode(errors="backslashreplace"))  # half a surrogate pair becomes JSON's own \uXXXX


@contextmanager
def whole_stream(path: Path, overwrite: bool = True, mode: int = 0o666) -> Generator[IO[bytes]]:
    """A stream whose content becomes the file `path` when the block ends without an exception.

    `mode` is the new file's, less the umask. Without `overwrite`, a `path` that exists is a
    `FileExistsError`, also if it appears meanwhile.
    """
    with whole_draft(path, overwrite, mode) as part, part.open("r+b") as stream:
        yield stream


@contextmanager
def whole_draft(path: Path, overwrite: bool = True, mode: int = 0o666) -> Generator[Path]:
    """An empty file in the folder of `path`, for what writes by name; else as `whole_stream`."""
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    # 60 letters have at most 240 bytes, and a name 255.
    part = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}{PART}")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield part
        with part.open("r+b") as stream:
            os.fsync(stream.fileno())
        _take_name(part, path, overwrite)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable, where the system can: Windows has no such call and needs none."""
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _take_name(part: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        else:
            return
    part.replace(path)
