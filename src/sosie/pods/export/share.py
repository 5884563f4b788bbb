"""What each of several machines does with a manifest, whoever starts it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from sosie import __version__
from sosie.core.errors import UsageError

NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
EVERY = 60
"""Seconds between two deliveries of what was drawn."""


@dataclass(frozen=True)
class Share:
    """`machines` of them draw the manifest that is at `folder` (absolute) there.

    With a `fetch` each brings its own copy there, and draws every so manieth shard; without, all see one folder.
    `deliver` is run every minute and at the end, `setup` before all. `on` are clouds by the engine's names, `gpu` a
    card by the engine's name, `memory` and `disk` in bytes, `price` the most in US dollars an hour; empty and 0 ask
    for nothing. `claim` is the volume claim that has the folder, and `queue` Kueue's, for Kubernetes.
    """

    name: str
    folder: str
    machines: int
    hours: float
    gpu: str = ""
    memory: int = 0
    disk: int = 0
    price: float = 0.0
    image: str = IMAGE
    on: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    deliver: tuple[str, ...] = ()
    claim: str = ""
    queue: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise UsageError(f"'{self.name[:80]}' is no name: a small letter, then small letters, digits and dashes")
        if not PurePosixPath(self.folder).is_absolute():
            raise UsageError(f"--at {self.folder} is no absolute path", "--at /mnt/shared/plans")
        if not 1 <= self.machines <= 1000:
            raise UsageError(f"-n {self.machines} is out of range: 1 to 1000")
        if not 0 < self.hours <= 24 * 30:
            raise UsageError(f"--hours {self.hours:g} is out of range: up to 720")

    def script(self, number: str) -> str:
        """What one machine runs, in `sh`; `number` is its own, from 0, as a word of the shell."""
        draw = ["sosie", "worker", "draw", shlex.quote(self.folder)]
        if self.fetch:
            draw += ["--shard", f'"{number}/{self.machines}"']
        lines = ["set -e", *(self.setup or (f"python3 -m pip install 'sosie[local]=={__version__}'",)), *self.fetch]
        if not self.deliver:
            return "\n".join([*lines, " ".join(draw)])
        deliver = "\n".join(self.deliver)
        return "\n".join(
            [
                *lines,
                f"( while sleep {EVERY}; do\n{deliver}\ndone ) &",
                f"code=0; {' '.join(draw)} || code=$?",
                deliver,
                "exit $code",
            ]
        )

    @property
    def seconds(self) -> int:
        """`hours` in seconds."""
        return round(self.hours * 3600)


def gigabytes(size: int) -> int:
    """Rounded up."""
    return -(-size // 10**9)
