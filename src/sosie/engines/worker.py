"""A worker thread that turns a function with a progress callback into events."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from sosie.core import Progress

Report = Callable[[Progress], None]
Result = TypeVar("Result")


class CancelledError(Exception):
    """Raised inside the work when nobody waits for it any more."""


class Job(Generic[Result]):
    """One piece of work under way. Leaving its `with` block early cancels it at its next report."""

    def __init__(self, pool: ThreadPoolExecutor, work: Callable[[Report], Result]) -> None:
        self._events: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
        self._wanted = True
        self._future: Future[Result] = pool.submit(work, self._report)
        self._future.add_done_callback(lambda _: self._events.put(None))

    def __enter__(self) -> Job[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self._wanted = False
        self._future.exception()

    def steps(self) -> Iterator[Progress]:
        """What was reported at each step, until the work ends."""
        while (event := self._events.get()) is not None:
            yield event

    def result(self) -> Result:
        """What the work returned, or the error that it raised."""
        return self._future.result()

    def _report(self, event: Progress) -> None:
        if not self._wanted:
            raise CancelledError
        self._events.put(event)


class Worker:
    """One thread that lives as long as its engine: models stay on the thread that loaded them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sosie-engine")

    def start(self, work: Callable[[Report], Result]) -> Job[Result]:
        """Runs `work(report)` on the thread."""
        return Job(self._pool, work)

    def close(self) -> None:
        """Waits for the thread to end."""
        self._pool.shutdown()
