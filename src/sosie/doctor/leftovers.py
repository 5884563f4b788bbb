"""Downloads that were broken off: which files are one, and which of them may be removed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from sosie.core import Finding
from sosie.doctor.disk import D016, PARTIAL_SUFFIXES, both, files_below

OLD_SECONDS = 3600
"""A partial file that was written to within the last hour may still be growing: connections stall for minutes."""

_OF_A_MODEL = re.compile(r"\.(?:safetensors|sft|gguf|bin|pth|pt|ckpt|onnx)(?:\.\w{1,80})*$", re.IGNORECASE)


def is_partial(path: Path) -> bool:
    """True for the name that a download tool gives to a file which it has not finished."""
    return path.name.lower().endswith(PARTIAL_SUFFIXES)


def check_partial(path: Path) -> Finding:
    """SOS-D016 for one partial download."""
    try:
        size, age = path.lstat().st_size, time.time() - path.lstat().st_mtime
    except OSError as error:
        message = f"{path} is a partial download and cannot be read: {error.strerror or error}"
        return D016.at(str(path), message, "check the file's rights")
    message = f"{path} is a partial download: {size_text(size)}, last written to {_ago(age)}"
    return D016.at(str(path), message, "finish the download, or remove it: sosie doctor --fix")


def find_partials(place: Path) -> Iterator[Path]:
    """The partial downloads below a folder, in no order, or the file itself if it is one."""
    if place.is_dir():
        yield from (path for path in files_below(place) if is_partial(path))
    elif is_partial(place):
        yield place


def why_kept(path: Path, opened: frozenset[tuple[int, int]]) -> str:
    """Why a partial download must not be removed, or empty if it may be.

    It may be if it is a plain file, of a model, not the control file of one, not written to for an
    hour, and not among the files that processes have open (`open_files`).
    """
    try:
        status = path.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if not S_ISREG(status.st_mode):
        return "it is no plain file"
    name, suffix = path.name.lower().rsplit(".", 1)
    if suffix == "aria2":
        return f"it says how much of {path.stem} is there: finish that with aria2c -c, or remove both"
    if suffix != "incomplete" and not _OF_A_MODEL.search(name):
        return "its name is not that of a model file"
    if (age := time.time() - status.st_mtime) < OLD_SECONDS:
        return f"it was written to {_ago(age)}, and the download may still be running"
    if (status.st_dev, status.st_ino) in opened:
        return "a process has it open"
    return ""


def open_files() -> frozenset[tuple[int, int]]:
    """Device and inode of every file that a process has open, as far as this user may see; Linux only."""
    found: set[tuple[int, int]] = set()
    for process in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            for entry in process.iterdir():
                with suppress(OSError):
                    status = os.stat(entry)  # noqa: PTH116  follows the link to a file without a name, too
                    found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def size_text(size: int) -> str:
    """The size in MB, from 1 GB on in GB and GiB."""
    return both(size) if size >= 10**9 else f"{size / 10**6:.1f} MB"


def _ago(seconds: float) -> str:
    """An age for people: minutes, hours or days."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"
