"""Working on a job: its events go on record as they come, and so does how it ends, whoever watches."""

from __future__ import annotations

import base64
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import Any

from sosie.api.jobs.previews import small_copy
from sosie.api.jobs.requests import do, read_request
from sosie.api.lines import json_of
from sosie.core import Event, Finding, Note, Preview, Progress
from sosie.core.errors import SosieError
from sosie.core.schema import to_table
from sosie.store.jobs import Jobs
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

PERIOD = 0.4
"""Seconds between two records of progress, and between two looks at whether the job is to end."""

GRACE = 8.0
"""Seconds that a job has for coming to an end when it is cancelled; then its process is ended."""

FORETOLD = 0.01
"""The share that must be done in this run before a time left is foretold."""


def work(session: Session, number: int) -> Generator[Event]:
    """Works on a queued job and yields its events. However it ends is on record, and `Jobs.get` says it.

    Where it was cancelled or has failed, nothing is raised; an interrupt by somebody else is raised again, and the job
    is stopped. Raises `UsageError` for a job that does not wait. To be called from the main thread.
    """
    folder = session.store.folder  # made and migrated now
    with Jobs(folder) as jobs, jobs.working(number) as job:
        recorder = Recorder(jobs, number)
        try:
            with _ending(session.workspace, number):
                asked = read_request(job.kind, job.request)
                with closing(do(session, asked)) as events:
                    for event in events:
                        recorder.add(event)
                        yield event
            recorder.settle()
            jobs.end(number, "done")
        except SosieError as error:
            jobs.end(number, "failed", error.message, error.hint)
        except (KeyboardInterrupt, GeneratorExit):
            if jobs.is_ending(number):
                jobs.end(number, "cancelled")
                return
            jobs.end(number, "stopped", "it was interrupted", f"sosie job continue {number}")
            raise
        except Exception as error:
            jobs.end(number, "failed", f"{type(error).__name__}: {error}", "report this")
            raise


class Recorder:
    """Keeps what a job tells. Progress and previews come too often to be kept: the newest every `PERIOD` seconds."""

    def __init__(self, jobs: Jobs, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._number = number
        self._clock = clock
        self._kept = -PERIOD
        self._waiting: Progress | None = None
        self._preview: Preview | None = None
        self._first: tuple[float, float] | None = None

    def add(self, event: Event) -> None:
        """One more event."""
        if isinstance(event, Progress):
            self._waiting = event
            self._preview = event if isinstance(event, Preview) else self._preview
            if self._clock() - self._kept >= PERIOD:
                self.settle()
            return
        kind, table = told(event)
        self._jobs.tell(self._number, kind, table)

    def settle(self) -> None:
        """Keeps the progress that waits."""
        event, self._waiting = self._waiting, None
        preview, self._preview = self._preview, None
        if preview is not None and (picture := small_copy(preview)):
            self._jobs.preview(self._number, base64.b64encode(picture).decode("ascii"))
        if event is not None:
            self._kept = self._clock()
            self._jobs.progress(self._number, event.what, (event.done, event.total), self._remaining(event))

    def _remaining(self, event: Progress) -> float | None:
        """By what this run took for its share: what an earlier run did took no time now."""
        share, time_now = min(event.share, 1.0), self._clock()
        if self._first is None or share < self._first[0]:
            self._first = share, time_now
        gained = share - self._first[0]
        return None if gained < FORETOLD else (time_now - self._first[1]) * (1 - share) / gained


def told(event: Event) -> tuple[str, dict[str, Any]]:
    """The kind of a record and its JSON. A result whose noun has none is told by its name."""
    match event:
        case Finding():
            return "finding", to_table(event)
        case Note():
            return "note", {"text": event.text}
        case Progress():
            return "progress", {"what": event.what, "done": event.done, "total": event.total}
        case _:
            name = {"noun": type(event).__name__}
            try:
                return "result", {**name, **json_of(event), **_stored(event)}
            except TypeError:
                return "result", name


def _stored(event: Event) -> dict[str, Any]:
    """Of an attempt: the render in the store, and the digest of its image."""
    from sosie.api.generation import Delivered

    if not isinstance(event, Delivered):
        return {}
    return {"render": event.attempt.stored.id, "sha256": event.attempt.stored.sha256}


@contextmanager
def _ending(workspace: Workspace, number: int) -> Generator[None]:
    """Interrupts the block, which the main thread is in, when the job is cancelled; ends the process if it is deaf."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(workspace, number, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(workspace: Workspace, number: int, over: threading.Event) -> None:
    with Jobs(workspace.state) as jobs:
        while not over.wait(PERIOD):
            if jobs.is_ending(number):
                break
        else:
            return
        interrupt()
        if not over.wait(GRACE):
            jobs.end(number, "cancelled")
            os._exit(130)


def interrupt() -> None:
    """What Ctrl-C does: the main thread gets a `KeyboardInterrupt`, also where it waits."""
    if sys.platform != "win32" and (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        import _thread

        _thread.interrupt_main()
