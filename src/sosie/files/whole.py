"""Files and folders written whole or not at all: the one writer of this project.

The bytes go to a draft, a hidden file in the folder of the target, reach the disk, and are then renamed: at every
moment, and after any crash, the target is the old file or the new one. A draft is locked while its process lives, so
that what a killed one left is known, and is removed when something is written beside it.
Below a folder `.sosie`, the state of a workspace, everything belongs to its owner alone (700, 600).
Everything raises `OSError` as the system does; what it means for the user is the caller's to say.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sosie.files.drafts import draft_name, new_file, new_folder, sweep_once
from sosie.files.regular import open_regular

PRIVATE = ".sosie"
"""What lies below a folder of this name is its owner's alone."""

_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM})
"""What systems answer where a folder cannot be opened or synced at all; the disk's own failures are others."""

_SAVING_SECONDS = 0.2
"""How long a text must stay as it is to count as saved."""


def write_whole(path: Path, content: bytes | str) -> None:
    """Makes or replaces the file `path`; a text is written as UTF-8 with its line ends as they are."""
    with whole_stream(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object, sort_keys: bool = False) -> None:
    """Makes or replaces the file `path` with `value` as readable JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=sort_keys) + "\n"
    write_whole(path, text.encode(errors="backslashreplace"))  # half a surrogate pair becomes JSON's own \uXXXX


def copy_whole(source: Path, path: Path, overwrite: bool = True) -> None:
    """Makes or replaces the file `path` with the bytes of another."""
    with whole_draft(path, overwrite) as part:
        shutil.copyfile(source, part)


def change_text(path: Path, change: Callable[[str], str]) -> None:
    """Gives the file `path` the text that `change` makes of its own; its mode stays.

    Its owner may be editing it, and takes no lock: what is saved while this writes is changed and written too, or
    put back as it is if `change` raises.
    """
    while True:
        with suppress(_ReplacedError):
            if _changed(path, change):
                return


class _ReplacedError(Exception):
    """Somebody else replaced a file while its new text was made."""


def _changed(path: Path, change: Callable[[str], str]) -> bool:
    """Gives the file its new text; False if another was saved into it meanwhile, which is its text now."""
    with open_regular(path) as old:
        text = old.read()
        with whole_draft(path) as part:
            part.write_bytes(change(text.decode()).encode())
            part.chmod(stat.S_IMODE(os.fstat(old.fileno()).st_mode))
            if not os.path.samestat(os.fstat(old.fileno()), path.stat()):
                raise _ReplacedError
            if sys.platform == "win32":  # an open file cannot be replaced there, nor does it live on without a name
                old.close()
        return sys.platform == "win32" or _taken_over(path, old, text, change)


def _taken_over(path: Path, old: IO[bytes], text: bytes, change: Callable[[str], str]) -> bool:
    """Whether the replaced file `old` still has its `text`; else what was saved into it is put back, to be changed."""
    saved = b""
    while (now := _content(old)) != text and now != saved:
        saved = now
        time.sleep(_SAVING_SECONDS)  # it may be written this very moment
    if now == text:
        return True
    with whole_draft(path) as part:
        part.write_bytes(now)
        part.chmod(stat.S_IMODE(os.fstat(old.fileno()).st_mode))
    change(now.decode())
    return False


def _content(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


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
    if not overwrite:
        _expect_free(path)
    sweep_once(path.parent)
    part, descriptor = new_file(path, mode & 0o600 if is_private(path) else mode)
    try:
        try:
            yield part
            os.fsync(descriptor)
            if sys.platform == "win32":  # an open file cannot be renamed there
                os.close(descriptor)
                descriptor = -1
            _take_name(part, path, overwrite)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    sync_folder(path.parent)


@contextmanager
def whole_folder(path: Path, mode: int = 0o777) -> Generator[Path]:
    """An empty folder beside `path` that becomes `path` when the block ends without an exception.

    `mode` is the new folder's, less the umask.
    FileExistsError if `path` is there, also if it appears meanwhile.
    """
    _expect_free(path)
    sweep_once(path.parent)
    part, descriptor = new_folder(path, mode & 0o700 if is_private(path) else mode)
    try:
        try:
            yield part
            _sync_below(part)
            if sys.platform == "win32":
                os.close(descriptor)
                descriptor = -1
            try:
                part.rename(path)
            except OSError:
                _expect_free(path)
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    sync_folder(path.parent)


def give_name(part: Path, path: Path, overwrite: bool = True) -> None:
    """Renames a file whose content is on the disk, for good."""
    _take_name(part, path, overwrite)
    if not overwrite:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def swap_folders(ready: Path, path: Path) -> None:
    """Puts the folder `ready` in the place of `path`, which may be missing; what was there is gone or is `ready` now.

    In one step where the system can; else there is no `path` for a moment, and after a crash then.
    """
    if not (path.exists() and _exchange(ready, path)):
        if path.exists():
            old = draft_name(path)  # not locked: whoever finds it may remove it
            path.rename(old)
            ready.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            ready.rename(path)
    sync_folder(path.parent)
    sync_folder(ready.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step, which Linux and most of its file systems can."""
    if sys.platform != "linux":
        return False
    import ctypes

    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange is not None and exchange(here, os.fsencode(one), here, os.fsencode(other), flag) == 0


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Makes a folder, and those above it, for good; one that is there is no error. `mode` is less the umask."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_folder(path.parent)
    path.mkdir(mode=mode & 0o700 if is_private(path) else mode, exist_ok=True)
    sync_folder(path.parent)


def make_file(path: Path) -> None:
    """Makes an empty file, for good; one that is there is no error and stays as it is."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private(path) else 0o666))
        sync_folder(path.parent)


def close_to_others(folder: Path) -> None:
    """Takes a folder, and all that is in it, from everyone but its owner; what cannot be changed stays."""
    if sys.platform == "win32":
        return
    for place, _, files in os.walk(folder):
        for path, mode in ((Path(place), 0o700), *((Path(place) / name, 0o600) for name in files)):
            with suppress(OSError):
                if stat.S_IMODE(path.lstat().st_mode) & 0o077 and not path.is_symlink():
                    path.chmod(mode)


def is_private(path: Path) -> bool:
    """Whether a path is, or lies below, the state of a workspace."""
    return PRIVATE in path.parts


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


def _sync_below(folder: Path) -> None:
    """Makes the content of every file and folder below `folder` durable."""
    for place, _, names in os.walk(folder):
        for name in names:
            with (Path(place) / name).open("r+b") as stream:
                os.fsync(stream.fileno())
        sync_folder(Path(place))


def _expect_free(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _take_name(part: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _expect_free(path)
    part.replace(path)  # after the link both are one file, and nothing happens
