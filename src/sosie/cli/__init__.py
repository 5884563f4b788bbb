"""The command line: one file a command, loaded when it is called.

Nothing is imported here that could be interrupted: from the first line of `main` on, Ctrl-C ends with one line.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` and `signal` import for longer than it takes to press Ctrl-C
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal


def main() -> None:
    """The `sosie` command: exit 0 done, 1 findings or rejected, 2 could not run, 130 interrupted."""
    try:
        signal.signal(signal.SIGINT, _leave)
        signal.signal(signal.SIGTERM, _leave)
        from sosie.cli.ending import run
    except KeyboardInterrupt:  # pressed before this line, and told here
        return _leave(signal.SIGINT, None)

    sys.exit(run())


def _leave(_signal: int, _frame: object) -> None:
    """Interrupted before a command began, or after it ended: there is nothing to put right."""
    try:
        os.write(2, b"error: interrupted\n")
    finally:
        os._exit(130)
