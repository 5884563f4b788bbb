"""Ends of a process, and failures of a disk, at chosen moments: before each change that a piece of work makes there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sosie.files import drafts

CHANGES = ("rename", "replace", "link", "unlink", "remove", "rmdir", "mkdir", "fsync", "chmod", "utime")
"""The functions of `os` that change a disk, but for `open`."""

FAILURES = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)


class KilledError(BaseException):
    """The process is no more: no handler of errors sees it, and what tidies up afterwards changes nothing."""


@contextmanager
def stopped_before(moment: int, failure: int = 0) -> Iterator[list[str]]:
    """From the change number `moment` (from 1) on nothing changes on the disk any more, as after a kill.

    With `failure` that change alone fails, with this errno. Yields the names of the changes that were begun.
    """
    begun: list[str] = []

    def checked(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            if name == "open" and not int(args[1] if len(args) > 1 else more.get("flags", 0)) & os.O_CREAT:  # type: ignore[call-overload]
                return function(*args, **more)
            begun.append(name)
            if failure and len(begun) == moment:
                raise OSError(failure, os.strerror(failure), str(args[0]))
            if not failure and len(begun) >= moment:
                raise KilledError
            return function(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in (*CHANGES, "open"):
            patch.setattr(os, name, checked(name, getattr(os, name)))
        yield begun
    drafts._swept.clear()  # what comes after is another process


def each_kill(work: Callable[[], object], prepare: Callable[[], object]) -> Iterator[int]:
    """Does a piece of work again and again, killed before its first change, its second, ... until it runs through.

    Yields the number of each kill, after it; `prepare` brings back the beginning.
    """
    moment = 0
    while True:
        moment += 1
        prepare()
        with stopped_before(moment) as begun:
            try:
                work()
            except KilledError:
                pass
            else:
                assert len(begun) < moment
                return
        yield moment


def each_failure(
    work: Callable[[], object], prepare: Callable[[], object]
) -> Iterator[tuple[int, BaseException | None]]:
    """As `each_kill`, but that one change fails, by turns with each of `FAILURES`; yields what the work raised."""
    moment = 0
    while True:
        moment += 1
        prepare()
        raised: BaseException | None = None
        with stopped_before(moment, FAILURES[moment % len(FAILURES)]) as begun:
            try:
                work()
            except Exception as error:
                raised = error
        if len(begun) < moment:
            return
        yield moment, raised
