"""What Sosie does for a server on this machine: its model files are looked at where they lie.

Nothing of what such a server says of folders is believed: only regular files below them that are named as models
are, without links that lead out of them, are read; and only if the server runs on this machine, for a port here may
be the near end of somebody's tunnel.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path

from sosie.api.comfy_far import on_detector
from sosie.api.doctor import Checkup, examine_file
from sosie.core import Finding, Plan
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.names import places
from sosie.engines.comfy.program import FileUse, Program
from sosie.engines.comfy.server import Server
from sosie.machines.ssh import SshError
from sosie.workspace.library import SUFFIXES
from sosie.workspace.workspace import Workspace

MAX_ENTRIES = 50_000
"""Most names in the folders that are looked at."""

MAX_DEPTH = 8
"""How deep a file may lie below a folder of models."""


class NearDoctor:
    """The files of one server of this machine, listed once, looked at when a plan names them or they have changed."""

    trouble: SshError | None = None
    """There is no line that could break."""

    def __init__(self, workspace: Workspace, server: Server, seen: MutableMapping[str, str]) -> None:
        """`seen` gets the stamp of each file by its name: the server is made to read it anew when that changes."""
        self._workspace = workspace
        self._server = server
        self._seen = seen
        self._files: tuple[str, ...] | None = None
        self._known: dict[tuple[str, str], Checkup] = {}

    def refused(self) -> list[Finding]:
        """Nothing: the server's own check says that it does not listen."""
        return []

    def check(self, plan: Plan, program: Program) -> list[Finding]:
        """What the headers say of the files that a plan uses, as far as they are to be found and read here."""
        del plan
        uses = [use for step in program.steps for use in step.draft.files]
        return [finding for checkup in self.examine_files(uses) for finding in checkup.findings]

    def examine_files(self, uses: Iterable[FileUse] | None) -> Iterator[Checkup]:
        """The files that `uses` name, or all that are in the model folders, each once."""
        listed = self._listing()
        found = list(listed) if uses is None else self._used(uses, listed)
        for path in dict.fromkeys(found):
            if stamp := _stamp(path):
                key = (path, stamp)
                if key not in self._known:
                    found = examine_file(self._workspace, Path(path), path)
                    self._known[key] = replace(found, findings=tuple(map(on_detector, found.findings)))
                yield self._known[key]

    def _used(self, uses: Iterable[FileUse], listed: Iterable[str]) -> list[str]:
        """The files that have the names of those a graph uses; where several fit, the server's check says so."""
        used: list[str] = []
        for use in uses:
            found = [(path, stamp) for path in places(use, listed) if (stamp := _stamp(path))]
            if found:
                self._seen[use.names[0]] = "; ".join(sorted(f"{path} {stamp}" for path, stamp in found))
            used += [path for path, _ in found]
        return used

    def _listing(self) -> tuple[str, ...]:
        if self._files is None:
            client = Client(self._server)
            self._files = ()
            try:
                if is_here(client.system()):
                    self._files = tuple(model_files(client.model_folders()))
            except ComfyError:
                # Whatever it is, the server's own check says it.
                return ()
            finally:
                client.close()
        return self._files


def is_here(system: System) -> bool:
    """Whether a server's machine has this one's memory, to the byte; False where either is not told."""
    return system.ram > 0 and system.ram == _memory()


def model_files(folders: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """The real paths of the model files below folders, each once; see the module for what is none."""
    roots = {os.path.realpath(path) for paths in folders.values() for path in paths if Path(path).is_absolute()}
    # The root of a disk is no folder of models.
    real = sorted(root for root in roots if root != Path(root).anchor)
    inside = tuple(f"{root}{os.sep}" for root in real)
    seen: set[str] = set()
    for count, path in enumerate(path for root in real for path in _below(root)):
        if count >= MAX_ENTRIES:
            return
        if path not in seen and path.lower().endswith(SUFFIXES):
            seen.add(path)
            target = os.path.realpath(path)
            if target.startswith(inside) and target.lower().endswith(SUFFIXES) and _stamp(target):
                yield path


def _below(root: str) -> Iterator[str]:
    """Everything below a folder, links to folders not followed; an empty text for each folder."""
    for place, folders, files in os.walk(root):
        yield ""
        if len(Path(place).parts) - len(Path(root).parts) >= MAX_DEPTH:
            folders.clear()
        for name in files:
            yield f"{place}{os.sep}{name}"


def _stamp(path: str) -> str:
    """Size and time of a regular file that may be read; empty for anything else."""
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    is_file = stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)
    return f"{status.st_size} {status.st_mtime_ns}" if is_file else ""


def _memory() -> int:
    """Bytes of this machine's memory; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
