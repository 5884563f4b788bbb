"""Who asks the child processes, and starts another where one has died or takes too long."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from sosie.core.errors import SosieError

MODULE = "sosie.studio.child"
SECONDS = 60.0
"""How long a file that came from elsewhere may take."""


class RefusedFileError(SosieError):
    """A file that came from elsewhere could not be read, and why."""


class Child:
    """One child process, begun when it is first asked; safe in threads, which wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, Any], seconds: float = SECONDS) -> dict[str, Any]:
        """The answer to a request. Raises `RefusedFileError`: what the child says, or that it has died of the file."""
        with self._lock:
            process = self._begun()
            late = threading.Timer(seconds, process.kill)
            late.start()
            try:
                answer = _exchange(process, json.dumps(dict(request)))
            finally:
                late.cancel()
            if answer is None:
                self._end()
                raise RefusedFileError("the file could not be read: it takes too much time or memory")
        if "error" in answer:
            raise RefusedFileError(answer["error"], answer.get("hint", ""))
        return answer

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()

    def _begun(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _exchange(process: subprocess.Popen[str], line: str) -> dict[str, Any] | None:
    """One line there and one back; None where the process has died."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())
    except (OSError, ValueError):
        return None
