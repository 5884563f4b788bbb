"""The process that works on one job: `python -m sosie.api.jobs.process ROOT NUMBER`, and who starts it.

A process of its own can be cancelled whatever it does, frees all memory at its end, and takes nobody with it when it
dies. What it draws with stays loaded in the workspace's worker. It ends, and the job is stopped, when its input does:
when whoever has started it is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from sosie.api.jobs.requests import DOWNLOADING, DRAWING
from sosie.api.jobs.work import GRACE, interrupt, work
from sosie.core.errors import SosieError
from sosie.files import whole
from sosie.store.jobs import Jobs
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

MODULE = "sosie.api.jobs.process"
LINES = (DRAWING, DOWNLOADING)
LOG_BYTES = 1 << 20


class Foreman:
    """Starts a process for the next job of each line, when there is one and the line is free. Not safe in threads."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._at_work: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    def look(self) -> None:
        """Starts what can be started; returns at once."""
        for line in [line for line, process in self._at_work.items() if process.poll() is not None]:
            _let_go(self._at_work.pop(line))
        free = [line for line in LINES if line not in self._at_work]
        if not free:
            return
        with Jobs(self._workspace.state) as jobs:
            busy = {job.kind for job in jobs.running()}  # by the command line, or by another page
            for line in free:
                if not busy & set(line) and (job := jobs.next(line)) is not None:
                    self._at_work[line] = _start(self._workspace, job.id)

    def close(self) -> None:
        """Has the processes stop their jobs, which can be continued; returns when they have ended."""
        for process in self._at_work.values():
            _let_go(process)
        for process in self._at_work.values():
            try:
                process.wait(GRACE + 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._at_work.clear()


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Ends its input, which it takes for the end."""
    if process.stdin is not None:
        process.stdin.close()


def log_file(workspace: Workspace) -> Path:
    """What the processes of jobs and the libraries in them print."""
    return workspace.state / "logs" / "jobs.log"


def _start(workspace: Workspace, number: int) -> subprocess.Popen[bytes]:
    """A process of its own session: what the terminal is told to end does not end it before its job is put away."""
    log = log_file(workspace)
    whole.make_folder(log.parent)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        if out.tell() > LOG_BYTES:
            out.truncate(0)
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", MODULE, str(workspace.root.absolute()), str(number)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
            creationflags=0x200 if os.name == "nt" else 0,  # CREATE_NEW_PROCESS_GROUP
        )


def main(arguments: Iterable[str]) -> int:
    """Works on a job. Exit code 0 whenever how it ended is on record."""
    root, number = arguments
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_input, daemon=True).start()
    _log(f"job {number} begins in process {os.getpid()}")
    try:
        with Session(open_workspace(Path(root))) as session:
            for _ in work(session, int(number)):
                pass
    except KeyboardInterrupt:
        _log(f"job {number} was interrupted")
    except SosieError as error:
        _log(f"job {number}: {error.message}")
        return 2
    except Exception:
        _log(traceback.format_exc())
        return 1
    return 0


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not through its buffer, whose lock would be held when the process ends
        pass
    interrupt()
    threading.Event().wait(GRACE)
    os._exit(130)


def _log(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
