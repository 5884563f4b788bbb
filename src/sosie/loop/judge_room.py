"""Where images are judged: in processes beside the one that draws, because OpenCV's nets hold Python's lock.

A process is started when an image waits and all others are busy, up to half of the cores. One that dies is started
again for the image that it had; an image that two processes died of is an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from sosie.core import Finding, Scorecard, Verdict
from sosie.core.errors import SosieError
from sosie.core.finding import Rule
from sosie.files.images import read_image
from sosie.loop.judge_process import Answer, Job

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from sosie.loop.judge import Judge, Origin

J010 = Rule("SOS-J010", "warning", "A judge process ended")

MOST = 16
"""Processes at most."""

DEATHS = 2
"""So many processes may end with one image before that is an error."""

BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from sosie.loop.judge_process import main; main()"


class JudgingError(SosieError):
    """An image could not be judged."""


@dataclass(frozen=True, eq=False)
class Sitting:
    """A stored image that is to be judged: its file, how it came about, and its RGB pixels if they are at hand."""

    judge: Judge
    path: Path
    origin: Origin
    image: Image | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """What was decided of an image, and what the user should know of how."""

    scorecard: Scorecard
    verdict: Verdict
    findings: tuple[Finding, ...] = ()


class Room(Protocol):
    """Judges images, several at a time or one after another."""

    @property
    def places(self) -> int:
        """How many images it judges at a time at most."""
        ...

    def open(self, judge: Judge) -> None:
        """Gets ready for images of a judge, without waiting."""
        ...

    def submit(self, sitting: Sitting) -> Future[Judged]:
        """Judges an image; the future may be done at once. It fails with what the judge raised."""
        ...


class Here:
    """Judges each image at once, in the thread that asks, with nets of its own. For a few images, and for tests."""

    places = 1

    def __init__(self) -> None:
        self._copies: dict[Any, Any] = {}

    def open(self, judge: Judge) -> None:
        """Nothing is to be got ready."""

    def submit(self, sitting: Sitting) -> Future[Judged]:
        """A future that is done."""
        future: Future[Judged] = Future()
        try:
            image = sitting.image if sitting.image is not None else read_image(sitting.path)
            future.set_result(Judged(*self._own(sitting.judge)(image, sitting.origin)))
        except Exception as error:
            future.set_exception(error)
        return future

    def _own(self, judge: Judge) -> Judge:
        """A copy of the judge: its nets may be at work elsewhere, in the face pass of another image."""
        from sosie.loop.judge import Judge

        if type(judge) is not Judge:  # one of a test
            return judge
        if judge not in self._copies:
            self._copies[judge] = pickle.loads(pickle.dumps(judge))  # noqa: S301
        return self._copies[judge]


class Processes:
    """Judges in up to `places` processes, which are started when they are needed. `close` ends them."""

    def __init__(self, places: int | None = None) -> None:
        self.places = places or max(1, min(MOST, _cores() // 2))
        self._work: queue.SimpleQueue[tuple[Sitting, Future[Judged]] | None] = queue.SimpleQueue()
        self._stations: list[_Station] = []
        self._lock = threading.Lock()
        self._asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, judge: Judge) -> None:
        """Starts the first process, which loads what this judge needs."""
        with self._lock:
            if not self._stations:
                self._add(judge)

    def submit(self, sitting: Sitting) -> Future[Judged]:
        """Has the next free process judge an image."""
        future: Future[Judged] = Future()
        with self._lock:
            self._asked += 1
            if self._asked > len(self._stations) < self.places:
                self._add(sitting.judge)
        future.add_done_callback(self._answered)
        self._work.put((sitting, future))
        return future

    def close(self) -> None:
        """Ends all processes, whatever they do: nothing of theirs is to be kept."""
        for station in self._stations:
            station.end()
            self._work.put(None)
        for station in self._stations:
            station.thread.join()

    def _add(self, judge: Judge) -> None:
        self._stations.append(_Station(self._work, judge))

    def _answered(self, _: Future[Judged]) -> None:
        with self._lock:
            self._asked -= 1


class _Station:
    """A thread that hands images to a process of its own, and starts that again if it dies."""

    def __init__(self, work: queue.SimpleQueue[tuple[Sitting, Future[Judged]] | None], judge: Judge) -> None:
        self._work = work
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._ended = False
        self.thread = threading.Thread(target=self._serve, args=(judge,), name="sosie-judge", daemon=True)
        self.thread.start()

    def end(self) -> None:
        """Kills the process; the thread ends at its next look."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def _serve(self, judge: Judge) -> None:
        with contextlib.suppress(OSError, JudgingError):
            self._begin().open(judge)
        while (item := self._work.get()) is not None:
            sitting, future = item
            del item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._judged(sitting))
                except BaseException as error:
                    future.set_exception(error)
            del sitting, future
        if self._process is not None:
            self._process.end()

    def _judged(self, sitting: Sitting) -> Judged:
        findings: list[Finding] = []
        image = sitting.image
        while True:
            process = self._process or self._begin()
            try:
                answer = process.ask(sitting, image)
            except (OSError, EOFError, pickle.UnpicklingError):
                how = process.end()
                with self._lock:
                    self._process = None
                what = f"the process that judged {sitting.path.name[:12]} ended ({how})"
                if self._ended or len(findings) + 1 == DEATHS:
                    raise JudgingError(f"{what}, {DEATHS} times", "is there enough memory? Run it again") from None
                findings.append(J010.at("judge", f"{what}; another one judges its image"))
                continue
            if answer.error is not None:
                raise answer.error
            if answer.decided is None:
                raise JudgingError(f"an image could not be judged: {answer.unforeseen.strip().splitlines()[-1]}")
            return Judged(*answer.decided, tuple(findings))

    def _begin(self) -> _Process:
        with self._lock:
            if self._ended:
                raise JudgingError("judging was stopped")
            self._process = _Process()
        return self._process


class _Process:
    """One process, and the pipes to it. Whatever it does not survive shows as `EOFError` or `OSError`."""

    def __init__(self) -> None:
        self._judge: Judge | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: Any = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def open(self, judge: Judge) -> None:
        """Has it load what a judge needs."""
        self._send(Job(self._news_of(judge)))

    def ask(self, sitting: Sitting, image: Image | None) -> Answer:
        """Has it judge an image; without pixels it reads the file."""
        size = image.size if image is not None else None
        self._send(Job(self._news_of(sitting.judge), sitting.path, size, sitting.origin), image)
        answer = pickle.load(self._process.stdout)  # noqa: S301
        if not isinstance(answer, Answer):
            raise EOFError
        return answer

    def kill(self) -> None:
        """Ends it now."""
        self._process.kill()

    def end(self) -> str:
        """Ends it, if it has not ended, and says how it did."""
        self._process.stdout.close()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        code = self._process.wait()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 2000))
        said = self._log.read().decode("utf-8", "replace").strip().splitlines()
        self._log.close()
        if code < 0:
            return f"killed by signal {-code}"
        return f"exit code {code}" + (f": {said[-1][:200]}" if said else "")

    def _news_of(self, judge: Judge) -> bytes:
        if judge is self._judge:
            return b""
        self._judge = judge
        return pickle.dumps(judge)

    def _send(self, job: Job, image: Image | None = None) -> None:
        pickle.dump(job, self._process.stdin)
        if image is not None:
            self._process.stdin.write(image.tobytes())
        self._process.stdin.flush()


def _cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
