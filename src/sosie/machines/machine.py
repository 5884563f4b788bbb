"""The protocol `Machine`: what any machine can be asked, whether it is this one or reached by ssh."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sosie.machines.facts import MachineFacts


@dataclass(frozen=True)
class ByteRange:
    """`length` bytes from `start` (0: the first byte) on."""

    start: int
    length: int


@dataclass(frozen=True)
class MachineFile:
    """A file by its absolute path on a machine, its bytes, and the time of its last change in the machine's own unit.

    `machine` is the machine's name; empty for this machine.
    """

    path: str
    size: int
    changed: int = 0
    machine: str = ""

    @property
    def name(self) -> str:
        """The path, after `machine:` where it is another machine's."""
        return f"{self.machine}:{self.path}" if self.machine else self.path

    @property
    def stamp(self) -> str:
        """Size and time: another one means another content."""
        return f"{self.size} {self.changed}"


class Machine(Protocol):
    """A machine that tells what it is, lists its model files and reads parts of them.

    Each method raises `SosieError` (`SshError` by ssh) if the machine cannot be asked.
    """

    def facts(self, folder: str) -> MachineFacts:
        """Cards, driver, memory, and the free space of the disk that holds `folder`, an absolute path."""
        ...

    def files(self, folders: Iterable[str]) -> tuple[MachineFile, ...]:
        """The model files in folders (absolute paths) and below them, each once."""
        ...

    def read(self, file: MachineFile, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range. Ranges lie within the file; one that became shorter is an error."""
        ...
