"""How much main memory a program may use on this machine: all of it, what is free, and a container's limit."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")

GROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat"),
    (
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "sys/fs/cgroup/memory/memory.stat",
    ),
)
"""Control groups 2 and 1: a container's limit, what it uses, and what of it are files that can be dropped."""


def machine_memory() -> int | None:
    """Bytes of the machine's memory, whatever a container may use of it; None where the system does not tell."""
    return _pages("SC_PHYS_PAGES")


def total_memory(root: Path = ROOT) -> int | None:
    """Bytes that a program may use: the machine's, or a container's limit if that is lower; None: not known.

    Linux only (`/proc/meminfo`, control groups 2 and 1).
    """
    total = _line(root, "MemTotal")
    return None if total is None else min([total, *(limit for limit, _ in _groups(root))])


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes that can be had without swapping, within a container's limit; None: not known."""
    free = _line(root, "MemAvailable")
    if free is None:
        free = _pages("SC_AVPHYS_PAGES")
    left = [max(limit - used, 0) for limit, used in _groups(root)]
    return min(left, default=None) if free is None else min([free, *left])


def _line(root: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """The limit of each control group that has one, and the bytes in use that cannot be dropped."""
    for limit, usage, stat in GROUPS:
        most, used = (_text(root / name).strip() for name in (limit, usage))
        if most.isdecimal():
            files = re.search(r"^(?:total_)?inactive_file (\d+)$", _text(root / stat), re.MULTILINE)
            held = int(used) if used.isdecimal() else 0
            yield int(most), max(held - (int(files[1]) if files else 0), 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _pages(name: str) -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
