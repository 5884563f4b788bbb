"""Work that a broken line only delays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sosie.machines.ssh.trouble import X001, SshError

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Seconds: a line that says nothing for `stall` is taken for dead; a machine that cannot be reached for `lost` is.

    A broken line is tried again after `first`, doubled up to `longest`. A program there begins within `opening`.
    """

    stall: float = 30.0
    lost: float = 600.0
    first: float = 0.5
    longest: float = 30.0
    opening: float = 120.0


def steady(work: Callable[[], T], patience: Patience) -> T:
    """Does `work`, which may be done twice, again while the machine cannot be reached.

    Raises its `SshError` when that is final, is of another kind, or `patience.lost` has passed.
    """
    until, pause = time.monotonic() + patience.lost, patience.first
    while True:
        try:
            return work()
        except SshError as error:
            if error.is_final or error.code != X001.code or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, patience.longest)
