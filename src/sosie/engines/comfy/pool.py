"""Many servers at one run: each takes the next plan when it is free; what a lost one had is done by another.

A thread a server; Sosie's own work on images stays in the thread that reads the events, so that nothing of
it (detectors, encoders) is used by two threads. While an image is judged its server renders the next one, and
no more: plans are made ready when images are read.

A server that cannot be reached may come back, and is waited for; but one that has nothing else to do draws its image
meanwhile. The first of the two is taken, and the other one's prompt taken back.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sosie.core import Plan, Progress, Render
from sosie.core.feed import Feed
from sosie.core.finding import Rule
from sosie.engines.comfy.errors import ComfyError, LostError, StoppedError
from sosie.engines.comfy.link import GLANCE
from sosie.engines.comfy.worker import PlanWork, ServerWorker

Y004 = Rule("SOS-Y004", "warning", "A ComfyUI server was lost, and another one did its work")

T = TypeVar("T")

LOOK = 0.05
"""Seconds between two looks at whether more plans have come."""

GRACE = 5.0
"""Seconds that a server's thread has for taking its prompt back, when a run ends early."""


@dataclass(frozen=True, eq=False)
class _Call:
    """Work for the reader's thread, and where its result goes."""

    work: Callable[[], Any]
    future: Future[Any]


@dataclass(frozen=True, eq=False)
class _Made:
    """What a server made of a plan."""

    worker: ServerWorker
    work: PlanWork
    render: Render


@dataclass(frozen=True, eq=False)
class _Lost:
    """A server that is gone, and the plan that it did not finish."""

    worker: ServerWorker
    work: PlanWork
    error: LostError


@dataclass(frozen=True, eq=False)
class _Failed:
    """What ends the run, if no one has made an image of that plan."""

    work: PlanWork
    error: BaseException


_News = Progress | _Made | _Call | _Lost | _Failed


class ServerPool:
    """One run of plans over workers. `events` yields each plan's render once, as they are finished.

    With one worker that is the order of the plans. `prepare` makes a plan ready to be sent, in the
    reader's thread.
    """

    def __init__(self, workers: Sequence[ServerWorker], engine: str, prepare: Callable[[Plan], PlanWork]) -> None:
        self._workers = list(workers)
        self._alive = len(self._workers)
        self._engine = engine
        self._prepare = prepare
        self._ready: deque[PlanWork] = deque()
        self._busy: dict[ServerWorker, PlanWork] = {}
        self._open: set[PlanWork] = set()
        self._drawn: set[PlanWork] = set()
        self._moved: dict[PlanWork, tuple[ServerWorker, LostError]] = {}
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._is_over = False

    def events(self, feed: Feed) -> Generator[Progress | Render]:
        """Runs all plans. Raises the first error that is not a lost server, or the last server's loss."""
        threads = [threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in self._workers]
        try:
            for thread in threads:
                thread.start()
            while self._fill(feed):
                news = self._next_news(feed)
                if news is None:
                    continue
                if isinstance(news, _Call):
                    _answer(news)
                elif isinstance(news, _Failed):
                    if news.work in self._open:
                        raise news.error
                elif isinstance(news, _Lost):
                    self._alive -= 1
                    if not self._alive:
                        raise news.error
                    self._hand_over(news)
                elif isinstance(news, Progress):
                    yield news
                elif news.work in self._open:
                    self._close(news.work)
                    self._fill(feed)
                    yield self._with_move(news)
        finally:
            self._end(threads)

    def _fill(self, feed: Feed) -> bool:
        """Keeps as many plans ready as there are servers, if there are so many; False when all is done."""
        while len(self._ready) < len(self._workers):
            is_idle = not self._ready and len(self._busy) < self._alive
            plan = feed.take(LOOK if is_idle else 0.0)
            if plan is None:
                break
            work = self._prepare(plan)
            with self._change:
                self._ready.append(work)
                self._open.add(work)
                self._change.notify_all()
        return bool(self._open) or not feed.ended

    def _next_news(self, feed: Feed) -> _News | None:
        """What a server has to say; None after a while in which more plans may have come."""
        try:
            return self._news.get(timeout=None if feed.ended else LOOK)
        except queue.Empty:
            return None

    def _hand_over(self, lost: _Lost) -> None:
        """Makes a lost server's plan ready again, unless another one has it or has done it."""
        with self._change:
            if lost.work not in self._drawn and lost.work not in self._busy.values():
                self._moved[lost.work] = (lost.worker, lost.error)
                self._ready.appendleft(lost.work)
                self._change.notify_all()

    def _close(self, work: PlanWork) -> None:
        """One image of a plan is enough: whoever still draws it stops."""
        with self._change:
            self._open.discard(work)
            if work in self._ready:
                self._ready.remove(work)
            for worker in [worker for worker, its in self._busy.items() if its is work]:
                worker.link.stop()

    def _with_move(self, made: _Made) -> Render:
        """The render, with SOS-Y004 if another server had begun with its plan."""
        lost, error = self._moved.pop(made.work, (made.worker, None))
        if error is None or lost is made.worker:
            return made.render
        message = f"server {lost.name} was lost in mid-run ({error.message}); another one did its work"
        moved = Y004.at(lost.name, message, error.hint)
        return replace(made.render, findings=(*made.render.findings, moved))

    def _take(self, worker: ServerWorker) -> PlanWork | None:
        """The next plan for a server; waits while there is none that may come, None when all is over."""
        with self._change:
            while not self._is_over:
                work = self._ready.popleft() if self._ready else self._forsaken()
                if work is not None:
                    self._busy[worker] = work
                    return work
                self._change.wait(GLANCE)
            return None

    def _forsaken(self) -> PlanWork | None:
        """The plan of a server that cannot be reached, if no one else draws it."""
        for worker, work in self._busy.items():
            holders = [other for other, its in self._busy.items() if its is work]
            trouble = worker.link.trouble
            if trouble is not None and work not in self._drawn and all(other.link.trouble for other in holders):
                self._moved[work] = (worker, trouble)
                return work
        return None

    def _leave(self, worker: ServerWorker, drawn: PlanWork | None) -> None:
        """After a plan: a stop that was meant for it is none for the next."""
        with self._change:
            self._busy.pop(worker, None)
            if drawn is not None:
                self._drawn.add(drawn)
            if not self._is_over:
                worker.link.resume()

    def _serve(self, worker: ServerWorker) -> None:
        """A server's thread."""
        host = _ThreadHost(self._news, worker)
        while (work := self._take(worker)) is not None:
            news: _Made | _Lost | _Failed | None = None
            try:
                news = _Made(worker, work, worker.render(work, self._engine, host))
            except StoppedError:
                pass
            except LostError as error:
                news = _Lost(worker, work, error)
            except BaseException as error:
                news = _Failed(work, error)
            self._leave(worker, work if isinstance(news, _Made) else None)
            if news is not None:
                self._news.put(news)
            if isinstance(news, _Lost):
                return

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """Stops what still runs; each server's thread takes its own prompt back."""
        with self._change:
            self._is_over = True
            self._change.notify_all()
        for worker in self._workers:
            worker.link.stop()
        for worker, thread in zip(self._workers, threads, strict=True):
            if thread.ident is not None:
                thread.join(GRACE)
            worker.relink()


class _ThreadHost:
    """A worker's `Host`: passes everything to the reader."""

    def __init__(self, news: queue.SimpleQueue[Any], worker: ServerWorker) -> None:
        self._news = news
        self._station = worker

    def report(self, progress: Progress) -> None:
        """Passes progress on."""
        self._news.put(progress)

    def here(self, work: Callable[[], T]) -> T:
        """Has the reader do it; waits, but not longer than anybody waits for the outcome."""
        future: Future[T] = Future()
        self._news.put(_Call(work, future))
        while True:
            self._station.link.check_wanted()
            if wait([future], GLANCE).done:
                return future.result()


def _answer(call: _Call) -> None:
    try:
        call.future.set_result(call.work())
    except BaseException as error:
        call.future.set_exception(error)


def reachable(workers: Sequence[ServerWorker]) -> tuple[list[ServerWorker], list[tuple[ServerWorker, ComfyError]]]:
    """The workers that answer, and why the others do not."""
    found: list[ServerWorker] = []
    lost: list[tuple[ServerWorker, ComfyError]] = []
    for worker in workers:
        try:
            worker.link.client.system()
        except ComfyError as error:
            lost.append((worker, error))
        else:
            found.append(worker)
    return found, lost
