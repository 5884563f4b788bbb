"""A machine that is reached by ssh, as a `Machine`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from sosie.machines.facts import QUERY, MachineFacts, machine_from_smi
from sosie.machines.machine import ByteRange, MachineFile
from sosie.machines.ssh import Command, Host, Pushed, list_models, push, read_ranges, remote_digest, run

FACTS = f"""
nvidia-smi 2>&1
nvidia-smi --query-gpu={QUERY} --format=csv 2>&1
head -n 1 /proc/meminfo 2>/dev/null
df -Pk -- "$1" 2>/dev/null
exit 0
"""


class Remote:
    """Keeps the protocol `Machine`; every method raises `SshError`. Times are in seconds since 1970.

    Its files are listed once for the same folders, and anew after `put`. Unless folders are `optional`, one of
    them must be there.
    """

    def __init__(self, host: Host, optional: bool = False) -> None:
        self.host = host
        self._optional = optional
        self._listed: dict[tuple[str, ...], tuple[MachineFile, ...]] = {}

    def facts(self, folder: str) -> MachineFacts:
        """As the machine's own `nvidia-smi`, `/proc/meminfo` and `df` tell."""
        return machine_from_smi(run(self.host, Command(FACTS, (folder,)), 60.0).text)

    def files(self, folders: Iterable[str]) -> tuple[MachineFile, ...]:
        """By path; links are followed (`list_models`)."""
        outermost = _outermost(folders)
        if outermost not in self._listed:
            found = list_models(self.host, *outermost, optional=self._optional) if outermost else ()
            self._listed[outermost] = found
        return self._listed[outermost]

    def read(self, file: MachineFile, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, by one command (`read_ranges`)."""
        return read_ranges(self.host, file, ranges)

    def put(self, local: Path, path: str) -> Pushed:
        """Copies a file of this machine to an absolute path there (`push`)."""
        self._listed.clear()
        return push(self.host, local, path)

    def digest(self, file: MachineFile) -> str:
        """The SHA-256 of a file's content, computed there."""
        return remote_digest(self.host, file.path)


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Folders without those that lie within another."""
    found: list[str] = []
    for path in sorted({str(PurePosixPath(path)) for path in paths}):
        if not any(path == kept or path.startswith(f"{kept}/") for kept in found):
            found.append(path)
    return tuple(found)
