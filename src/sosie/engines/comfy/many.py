"""Many servers at one run: each takes the next plan when it is free; what a lost one had is done by another.

A thread a server; Sosie's own work on images stays in the thread that reads the events, so that nothing of
it (detectors, encoders) is used by two threads. While an image is judged its server renders the next one, and
no more: plans are made ready when images are read.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sosie.core import Finding, Plan, Progress, Render
from sosie.engines.comfy.errors import ComfyError, LostError, StoppedError
from sosie.engines.comfy.link import GLANCE
from sosie.engines.comfy.station import Station, Work

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a server's thread has for taking its prompt back, when a run ends early."""


@dataclass(frozen=True, eq=False)
class _Call:
    """Work for the reader's thread, and where its result goes."""

    work: Callable[[], Any]
    future: Future[Any]


@dataclass(frozen=True, eq=False)
class _Lost:
    """A server that is gone, and the plan that it did not finish."""

    station: Station
    work: Work
    error: LostError


@dataclass(frozen=True, eq=False)
class _Failed:
    """What ends the run."""

    error: BaseException


class Spread:
    """One run of plans over stations. `events` yields each plan's render once, as they are finished.

    With one station that is the order of the plans. `prepare` makes a plan ready to be sent, in the
    reader's thread.
    """

    def __init__(self, stations: Sequence[Station], engine: str, prepare: Callable[[Plan], Work]) -> None:
        self._stations = list(stations)
        self._engine = engine
        self._prepare = prepare
        self._ready: deque[Work] = deque()
        self._moved: dict[str, Finding] = {}
        self._news: queue.SimpleQueue[Progress | Render | _Call | _Lost | _Failed] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._is_over = False

    def events(self, plans: Sequence[Plan]) -> Generator[Progress | Render]:
        """Runs all plans. Raises the first error that is not a lost server, or the last server's loss."""
        waiting, open_, alive = deque(plans), len(plans), len(self._stations)
        threads = [threading.Thread(target=self._serve, args=(station,), daemon=True) for station in self._stations]
        try:
            self._fill(waiting)
            for thread in threads:
                thread.start()
            while open_:
                news = self._news.get()
                if isinstance(news, _Call):
                    _answer(news)
                elif isinstance(news, _Failed):
                    raise news.error
                elif isinstance(news, _Lost):
                    alive -= 1
                    if not alive:
                        raise news.error
                    self._hand_over(news)
                elif isinstance(news, Render):
                    open_ -= 1
                    self._fill(waiting)
                    yield self._with_move(news)
                else:
                    yield news
        finally:
            self._end(threads)

    def _fill(self, waiting: deque[Plan]) -> None:
        """Keeps as many plans ready as there are servers."""
        while waiting and len(self._ready) < len(self._stations):
            work = self._prepare(waiting.popleft())
            with self._change:
                self._ready.append(work)
                self._change.notify_all()

    def _hand_over(self, lost: _Lost) -> None:
        plan, name = lost.work.plan, lost.station.name
        message = f"server {name} was lost in mid-run ({lost.error.message}); another one did its work"
        self._moved[plan.id] = Finding("SOS-Y004", "warning", name, message, lost.error.hint)
        with self._change:
            self._ready.appendleft(lost.work)
            self._change.notify_all()

    def _with_move(self, made: Render) -> Render:
        moved = self._moved.pop(made.plan.id, None)
        return replace(made, findings=(*made.findings, moved)) if moved else made

    def _take(self) -> Work | None:
        """The next plan for a server; waits while there is none that may come back, None when all is over."""
        with self._change:
            while not self._is_over and not self._ready:
                self._change.wait()
            return None if self._is_over else self._ready.popleft()

    def _serve(self, station: Station) -> None:
        """A server's thread."""
        host = _ThreadHost(self._news, station)
        while (work := self._take()) is not None:
            try:
                made = station.render(work, self._engine, host)
            except StoppedError:
                return
            except LostError as error:
                self._news.put(_Lost(station, work, error))
                return
            except BaseException as error:
                self._news.put(_Failed(error))
                return
            self._news.put(made)

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        """Stops what still runs; each server's thread takes its own prompt back."""
        with self._change:
            self._is_over = True
            self._change.notify_all()
        for station in self._stations:
            station.link.stop()
        for station, thread in zip(self._stations, threads, strict=True):
            if thread.ident is not None:
                thread.join(GRACE)
            station.relink()


class _ThreadHost:
    """A station's `Host`: passes everything to the reader."""

    def __init__(self, news: queue.SimpleQueue[Any], station: Station) -> None:
        self._news = news
        self._station = station

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


def reachable(stations: Sequence[Station]) -> tuple[list[Station], list[tuple[Station, ComfyError]]]:
    """The stations that answer, and why the others do not."""
    found: list[Station] = []
    lost: list[tuple[Station, ComfyError]] = []
    for station in stations:
        try:
            station.link.client.system()
        except ComfyError as error:
            lost.append((station, error))
        else:
            found.append(station)
    return found, lost
