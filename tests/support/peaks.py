"""How much memory a reader takes at most, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MEASURE = """
import sys, resource
from pathlib import Path
from sosie.core.errors import SosieError

def peak():
    try:
        words = Path("/proc/self/status").read_text().split()
        return int(words[words.index("VmHWM:") + 1]) / 1024
    except OSError:  # macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

{setup}
try:
    {warm}
except (SosieError, ValueError, OSError):
    pass
before = peak()
said = "read"
try:
    {read}
except (SosieError, ValueError) as error:
    said = str(error)
print(f"{{peak() - before:.1f}} {{said!a}}")
"""


def peak_of(setup: str, read: str, warm: str = "pass") -> tuple[float, str]:
    """MiB that `read` took at most beyond what `setup` and `warm` (a small one of the same kind) left; what it said.

    All are Python; of `read` every error of Sosie's and every `ValueError` is an answer, any other fails.
    """
    code = _MEASURE.format(setup=setup, read=read.replace("\n", "\n    "), warm=warm)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    taken, _, said = done.stdout.strip().partition(" ")
    return float(taken), said


def of_file(module: str, function: str, path: Path, warm: Path | None = None) -> tuple[float, str]:
    """The same for a function of one path."""
    setup = f"from {module} import {function}"
    first = f"{function}(Path({str(warm)!r}))" if warm else "pass"
    return peak_of(setup, f"{function}(Path({str(path)!r}))", first)
