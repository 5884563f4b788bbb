"""Files of a run: written whole or not at all, never below the disk's reserve."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.files.drafts import PART
from sosie.files.whole import make_folder, write_whole

U020 = Rule("SOS-U020", "error", "The disk is full: a save was not made")
U022 = Rule("SOS-U022", "info", "A half-written file was removed")

RESERVE = 10**9
"""Bytes that a run leaves free on its disk: the system, and other programs, need them."""


class DiskFullError(Exception):
    """A save was not made, or not finished; what was there before is untouched. `finding` says how much was missing."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def free_bytes(folder: Path) -> int:
    """What is free on the disk of `folder`."""
    return shutil.disk_usage(folder).free


def save_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all. Raises `DiskFullError` (SOS-U020) if it cannot be written."""
    try:
        make_folder(path.parent)
        write_whole(path, content)
    except OSError as error:
        why = error.strerror or str(error)
        raise DiskFullError(_full(path, f"could not be written ({why}): {len(content) / 1e6:.1f} MB")) from error


def make_room(folder: Path, needed: int, expendable: Iterable[Path], removed: Callable[[Path], None]) -> None:
    """Sees to it that `needed` bytes can be written and the reserve stays free.

    Removes files of `expendable`, in their order, one by one while that is not so, and calls
    `removed` for each. Raises `DiskFullError` (SOS-U020) if it is not enough.
    """
    files = iter(expendable)
    while (free := free_bytes(folder)) < needed + RESERVE:
        oldest = next(files, None)
        if oldest is None:
            has = f"has {free / 1e6:,.0f} MB free; the save takes {needed / 1e6:,.1f} MB and {RESERVE / 1e6:,.0f} MB"
            raise DiskFullError(_full(folder, f"{has} shall stay free"))
        oldest.unlink(missing_ok=True)
        removed(oldest)


def remove_leftovers(folder: Path) -> list[Finding]:
    """Removes what a killed process left half-written in a run's folder: SOS-U022 for each file."""
    findings: list[Finding] = []
    for part in sorted(folder.rglob(f".*{PART}")):
        part.unlink(missing_ok=True)
        name = part.name[1 : -len(PART)].rpartition(".")[0]
        message = f"{name} was being written when the run was killed; the half file was removed"
        findings.append(U022.at(str(folder), message, "the save before it counts"))
    return findings


def _full(path: Path, what: str) -> Finding:
    hint = "free some space, then resume the run: it goes on from its last save"
    return U020.at(str(path), f"{path} {what}", hint)
