"""A model file of which only parts are here, and the mending of one that is here whole.

A browser keeps the file and sends what the doctor wants to read: the header, single numbers, samples of the weights. So
a file of many gigabytes is examined by some hundred kilobytes of it, as one on another machine is (`doctor.remote`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sosie.api.doctor import Checkup, checkup_of, examine
from sosie.api.fixes import apply_fix, propose_fixes
from sosie.api.lines import json_of
from sosie.api.needs import Examination
from sosie.core.errors import UsageError
from sosie.doctor.remote import examine_on
from sosie.files.digest import file_digest
from sosie.files.whole import copy_whole, make_folder
from sosie.machines.facts import MachineFacts, read_machine
from sosie.machines.machine import ByteRange, MachineFile
from sosie.workspace.workspace import Workspace

HOLDER = "browser"
"""The machine that holds the file, as the doctor names it."""

PART = "file"
"""The name of the file there, without its suffix."""

MENDED = "mended"
"""The folder of `outputs` for what was mended."""

Pieces = Mapping[tuple[int, int], bytes]
"""Bytes by their start and length."""


class WantedError(Exception):
    """The doctor wants to read ranges that are not here yet."""

    def __init__(self, ranges: Sequence[ByteRange]) -> None:
        super().__init__(f"{len(ranges)} ranges are not here")
        self.ranges = tuple(ranges)


class Held:
    """The machine that holds the file, as far as its pieces are here. Keeps `machines.machine.Machine`."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def facts(self, folder: str) -> MachineFacts:
        """Nothing is known of a browser's machine."""
        del folder
        return MachineFacts()

    def files(self, folders: Iterable[str]) -> tuple[MachineFile, ...]:
        """A browser shows no folders."""
        del folders
        return ()

    def read(self, file: MachineFile, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range. Raises `WantedError` with those that are not here."""
        del file
        keys = [(one.start, one.length) for one in ranges]
        if lacking := [one for one, key in zip(ranges, keys, strict=True) if key not in self._pieces]:
            raise WantedError(lacking)
        return [self._pieces[key] for key in keys]


def examine_pieces(workspace: Workspace, name: str, size: int, pieces: Pieces) -> dict[str, Any]:
    """The checkup of a file of `size` bytes, or the ranges that are `wanted` for it: to be asked again with them."""
    file = MachineFile(f"/{name}", size, machine=HOLDER)
    try:
        found = examine_on(Held(pieces), file, workspace.known_table)
    except WantedError as error:
        return {"wanted": [[one.start, one.length] for one in error.ranges]}
    checkup = checkup_of(found)
    return {"checkups": [{**json_of(checkup), "mends": mends_of(checkup, name)}]}


def examine_whole(workspace: Workspace, path: Path) -> dict[str, Any]:
    """The checkups of a file that is here, each with what mends it."""
    found = examine(workspace, (str(path),), Examination())
    return {"checkups": [{**json_of(one), "mends": mends_of(one, path.name)} for one in found]}


def mends_of(checkup: Checkup, name: str) -> list[str]:
    """The actions that write a sound file in place of a broken one: `convert-lora`, `convert-model`."""
    fixes = propose_fixes((replace(checkup, path=f"/{name}"),))
    return [fix.action for fix in fixes if fix.out is not None]


def mend(workspace: Workspace, path: Path) -> dict[str, Any]:
    """Converts a file that is here, exactly, into `outputs/mended` under its digest; `path` stays as it is.

    Raises `UsageError` where nothing can be mended without loss.
    """
    found = list(examine(workspace, (str(path),), Examination()))
    fix = next((fix for fix in propose_fixes(found) if fix.out is not None and not fix.blocked), None)
    if fix is None or fix.out is None:
        raise UsageError("nothing of this file can be mended without loss", "sosie doctor FILE says what is wrong")
    done = apply_fix(fix)
    if not done.done:
        raise UsageError(done.message)
    try:
        sha256 = file_digest(fix.out)
        place = workspace.root / "outputs" / MENDED / f"{sha256}.safetensors"
        make_folder(place.parent)
        copy_whole(fix.out, place)
    finally:
        fix.out.unlink(missing_ok=True)
    again = examine_whole(workspace, place)
    return {"message": done.message, "sha256": sha256, "bytes": place.stat().st_size, **again}


def mended_path(workspace: Workspace, sha256: str) -> Path | None:
    """Where the mended file of a digest lies, None if there is none."""
    path = workspace.root / "outputs" / MENDED / f"{sha256}.safetensors"
    return path if path.is_file() else None


def machine_at_a_glance(workspace: Workspace) -> dict[str, Any]:
    """Cards, torch, memory and disk of this machine, and what the doctor says of it. None: not known."""
    facts = read_machine(workspace.root)
    cards = [{"name": one.name, "memory": _bytes(one.vram_mib), "free": _bytes(one.free_mib)} for one in facts.gpus]
    known = {"cards": cards, "torch": str(facts.torch) if facts.torch else None, "memory": _bytes(facts.ram_mib)}
    checkups = [json_of(one) for one in examine(workspace, (), Examination())]
    return {**known, "free_disk": facts.free_disk, "checkups": checkups}


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib * 2**20
