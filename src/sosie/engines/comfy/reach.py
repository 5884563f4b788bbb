"""What an engine that runs ComfyUI's graphs is given: a compiler, and the way to its servers and their machines."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from sosie.core import Finding, Plan
from sosie.core.errors import SosieError
from sosie.engines.comfy.program import Compiler, GraphProgram
from sosie.engines.comfy.server import Server


class MachineDoctor(Protocol):
    """The doctor on a server's machine."""

    @property
    def trouble(self) -> SosieError | None:
        """Why there is no line to the machine now."""
        ...

    def refused(self) -> list[Finding]:
        """What nothing listens for there, since this was asked last."""
        ...

    def check(self, plan: Plan, program: GraphProgram) -> list[Finding]:
        """What is to be said of the machine and of the files there that a plan uses."""
        ...


Reach = Callable[
    [str, MutableMapping[str, str]], AbstractContextManager[tuple[Sequence[Server], Sequence[MachineDoctor]]]
]
"""Opens the lines to the servers of an address, with the doctors of their machines.

The mapping gets the stamp of each file by its name: the server is made to read it again when that changes.
"""


@dataclass(frozen=True, eq=False)
class Graphs:
    """What an engine that runs ComfyUI's graphs is given.

    `compiler` makes them. A `variant` of them ends the engine's name, so that images of another one are not taken
    for these. `stamps` are those of `ComfySupplies`.
    """

    compiler: Compiler
    reach: Reach
    stamps: MutableMapping[str, str]
    variant: str = ""
