"""A program of the user's on this machine: run without a shell, bounded in time and in what it may say."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

MAX_COMPLAINT = 4000
"""Bytes of stderr that are kept, the last ones."""


@dataclass(frozen=True)
class Done:
    """How a program ended: its exit code, its output, the end of its complaints, and whether it said too much."""

    code: int
    out: str
    err: str
    is_too_long: bool = False


def run_bounded(words: Sequence[str], seconds: float, most: int) -> Done:
    """Runs a program until it ends, `seconds` at most; one that says more than `most` bytes is ended.

    What it started ends with it. Raises `OSError` if it cannot be started, `subprocess.TimeoutExpired` if it is late.
    """
    until = time.monotonic() + seconds
    process = subprocess.Popen(  # noqa: S603 - the user's own program, without a shell
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said, complained = _Pipe(process.stdout, most), _Pipe(process.stderr, MAX_COMPLAINT, only_end=True)
    try:
        while said.is_open and not said.is_full:
            said.wait(min(1.0, until - time.monotonic()))
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(list(words), seconds)
        if not said.is_full:
            process.wait(max(0.0, until - time.monotonic()))
            complained.wait(1.0)
    finally:
        _end(process)
        for pipe in (said, complained):
            pipe.wait(5.0)
    return Done(process.returncode, said.text, complained.text, said.is_full)


class _Pipe:
    """What comes out of a pipe, read as it comes: up to `most` bytes, or the last `most` of all."""

    def __init__(self, stream: IO[bytes] | None, most: int, only_end: bool = False) -> None:
        self._stream = stream
        self._most = most
        self._only_end = only_end
        self._content = bytearray()
        self.is_full = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    @property
    def text(self) -> str:
        return self._content[: self._most].decode("utf-8", errors="replace")

    def wait(self, seconds: float) -> None:
        self._thread.join(max(0.0, seconds))

    def _read(self) -> None:
        if self._stream is None:
            return
        with contextlib.suppress(OSError, ValueError), self._stream:
            while chunk := os.read(self._stream.fileno(), 65_536):
                self._content += chunk
                if self._only_end:
                    del self._content[: -self._most]
                elif len(self._content) > self._most:
                    self.is_full = True
                    return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the program if it still runs, and on POSIX what it started too."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
