"""How busy this machine is, and what follows for threads that wait."""

from __future__ import annotations

import os
import sys

POLICY = "OMP_WAIT_POLICY"
"""Read once, when torch loads OpenMP; numbers do not depend on it."""


def calm_threads() -> None:
    """Lets waiting threads sleep where more is running than this machine has cores; a policy that is set stays.

    To be called before torch is imported. 6 steps of `mini` on two cores took 1.1 s spinning and 2.0 s sleeping on an
    idle machine, 6.2 s and 2.5 s beside two busy processes.
    """
    if is_busy():
        os.environ.setdefault(POLICY, "PASSIVE")


def is_busy() -> bool:
    """Whether the processes that ran in the last minute are a quarter more than the cores; no where none is told."""
    if sys.platform == "win32":
        return False
    return os.getloadavg()[0] > 1.25 * (os.cpu_count() or 1)
