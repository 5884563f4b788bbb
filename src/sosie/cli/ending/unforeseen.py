"""Errors that nobody foresaw: their tracebacks, in files of the user's own."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sosie import __version__
from sosie.core.address import conceal
from sosie.core.errors import SosieError
from sosie.files.whole import make_folder, whole_stream

KEPT = 20
"""So many files are kept, the newest."""

workspace_state: Path | None = None
"""The state of the workspace that a command works in, once it is known."""


def record(error: BaseException) -> Path | None:
    """Writes the traceback of an error to a file of its own, and returns the file; None if no folder takes it.

    In `.sosie/logs` of the workspace, or else in the user's folder for logs. Values are not in it, and
    addresses have no secrets.
    """
    words = "".join(traceback.format_exception(error))
    head = f"sosie {__version__}, Python {platform.python_version()}, {platform.platform()}"
    text = conceal_lines(f"{head}\n{' '.join(map(repr, sys.argv))}\n\n{words}")
    for folder in _folders():
        with suppress(OSError, ValueError, SosieError):
            make_folder(folder)
            _sweep(folder)
            path = folder / f"error-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}.log"
            with whole_stream(path, overwrite=False, mode=0o600) as stream:
                stream.write(text.encode(errors="backslashreplace"))
            return path
    return None


def conceal_lines(text: str) -> str:
    """The text with the addresses in each line as people may see them."""
    return "\n".join(map(conceal, text[:200_000].split("\n")))


def _folders() -> Iterator[Path]:
    from platformdirs import user_log_dir

    if workspace_state is not None and workspace_state.is_dir():
        yield workspace_state / "logs"
    yield Path(user_log_dir("sosie", appauthor=False))


def _sweep(folder: Path) -> None:
    for old in sorted(folder.glob("error-*.log"))[: -KEPT + 1]:
        old.unlink(missing_ok=True)
