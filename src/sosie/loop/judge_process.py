"""A process that judges images: what `judge_room` starts, one image at a time.

It reads jobs from its input and writes answers to its output, pickled: both ends are one program of one user, and
nobody else has the pipe. It ends when its input does, so it never outlives the command; Ctrl-C is the command's to
handle.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sosie.core.errors import SosieError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.core import Scorecard, Verdict
    from sosie.loop.judge import Judge, Origin


@dataclass(frozen=True)
class Job:
    """A stored image and how it came about; `judge` is the pickled judge where it is another one than the last.

    Its RGB pixels of `size` follow on the pipe; without a size it is read from the file at `path`. Without a path
    nothing is to be judged or answered: the judge is to be loaded.
    """

    judge: bytes
    path: Path | None = None
    size: tuple[int, int] | None = None
    origin: Origin | None = None


@dataclass(frozen=True)
class Answer:
    """What was decided, or the error, or (of an error that nobody foresaw) its text."""

    decided: tuple[Scorecard, Verdict] | None = None
    error: SosieError | None = None
    unforeseen: str = ""


def main() -> None:
    """Works until there is no input any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with contextlib.suppress(EOFError, BrokenPipeError):
        work(jobs, answers)


def work(jobs: IO[bytes], answers: IO[bytes]) -> None:
    """Answers jobs in turn; EOFError when there are no more."""
    bench = _Bench()
    while True:
        job: Job = pickle.load(jobs)  # noqa: S301
        bench.pickled = job.judge or bench.pickled
        if job.judge:
            bench.judge = None
        pixels = jobs.read(3 * job.size[0] * job.size[1]) if job.size else b""
        if job.path is None:
            with contextlib.suppress(Exception):  # the first image meets it again
                bench.open()
            continue
        pickle.dump(_answer(bench, job, pixels), answers)
        answers.flush()


def _answer(bench: _Bench, job: Job, pixels: bytes) -> Answer:
    try:
        return Answer(bench.open()(_image(job, pixels), job.origin))
    except SosieError as error:
        return Answer(error=error)
    except Exception:
        return Answer(unforeseen=traceback.format_exc())


@dataclass(eq=False)
class _Bench:
    """The judge at work."""

    pickled: bytes = b""
    judge: Judge | None = None

    def open(self) -> Judge:
        if self.judge is not None:
            return self.judge
        import cv2

        cv2.setNumThreads(1)  # other images are judged, and drawn, beside it
        judge: Judge = pickle.loads(self.pickled)  # noqa: S301
        self.judge = judge
        return judge


def _image(job: Job, pixels: bytes) -> Image:
    from PIL import Image

    from sosie.files.images import read_image

    if job.size is not None:
        return Image.frombuffer("RGB", job.size, pixels)
    return read_image(Path(job.path or ""))
