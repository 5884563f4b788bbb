"""Jobs: the queue of a workspace, who works on what, and everything that was told of it.

Whoever works on a job holds its lock, a file that the system frees when the process ends, however it ends. So a job
whose process died is known: it is `stopped`, and is never shown as running.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sosie.core.errors import NotFoundError, StoreError, UsageError
from sosie.files.lock import HeldError, held
from sosie.files.whole import make_folder
from sosie.store.catalogue import Catalogue, as_json, as_text, now
from sosie.store.faults import disk_fault

TABLES = ("jobs", "job_events")

State = Literal["queued", "running", "stopped", "done", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("queued", "running", "stopped")
"""States of jobs that are not at their end."""

MOST = 100_000
"""Events that are read at once at most."""

_WAIT = 2.0
"""Seconds to wait for a lock that somebody tries only to see whether it is held."""

_held_here: set[Path] = set()
"""The locks that this process holds: a thread could take its own again, and think that nobody has it."""

_FORGET_PREVIEWS = "DELETE FROM job_events WHERE job = ? AND kind = 'preview'"

_COLUMNS = (
    "id, kind, request, state, place, ending, created, coalesce(started, ''), coalesce(finished, ''), message, hint, "
    "what, done, total, remaining"
)


@dataclass(frozen=True)
class StoredJob:
    """A job of the queue. Times are ISO 8601 in UTC, or empty; `remaining` is in seconds, None where not known.

    `ending` is True while it is asked to end and has not. `message` and `hint` say why it failed.
    """

    id: int
    kind: str
    request: dict[str, Any]
    state: State
    place: float
    ending: bool
    created: str
    started: str
    finished: str
    message: str
    hint: str
    what: str
    done: float
    total: float
    remaining: float | None

    @property
    def is_open(self) -> bool:
        """Whether it is not at its end."""
        return self.state in OPEN


@dataclass(frozen=True)
class JobEvent:
    """What was told of a job: `id` counts over all jobs, in the order in which things were told."""

    id: int
    job: int
    kind: str
    table: dict[str, Any]
    created: str


class Jobs:
    """The queue of the store in `folder`, which a `Store` has made. One for each thread; close it.

    Every method raises `StoreError`; one that names a job raises `NotFoundError` if there is none.
    """

    def __init__(self, folder: Path) -> None:
        self._locks = folder / "jobs"
        self._catalogue = Catalogue(folder / "catalogue.sqlite")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the catalogue."""
        self._catalogue.close()

    def add(self, kind: str, request: Mapping[str, Any]) -> StoredJob:
        """Puts a job at the end of the queue."""
        with self._catalogue.write():
            place = self._catalogue.row("SELECT coalesce(max(place), 0) + 1 FROM jobs")[0]
            number = self._catalogue.insert(
                "INSERT INTO jobs (kind, request, state, place, created) VALUES (?, ?, 'queued', ?, ?)",
                *(as_text(kind), as_json(dict(request)), place, now()),
            )
            self._tell(number, "state", {"state": "queued"})
        return self.get(number)

    def get(self, number: int) -> StoredJob:
        """A job by its number, as it is now."""
        self.settle()
        return self._get(number)

    def all(self, only_open: bool = False, most: int = 1000) -> tuple[StoredJob, ...]:
        """The jobs: those that run, then the queue in its order, then the others, the newest first."""
        self.settle()
        where = "WHERE state IN ('queued', 'running', 'stopped')" if only_open else ""
        order = (
            "ORDER BY CASE state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'stopped' THEN 2 ELSE 3 END, "
            "CASE state WHEN 'queued' THEN place ELSE -id END LIMIT ?"
        )
        return tuple(_job(row) for row in self._catalogue.rows(f"SELECT {_COLUMNS} FROM jobs {where} {order}", most))  # noqa: S608

    def next(self, kinds: tuple[str, ...]) -> StoredJob | None:
        """The job of one of these kinds that comes next, or None."""
        marks = ", ".join("?" * len(kinds))
        sql = f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' AND kind IN ({marks}) ORDER BY place LIMIT 1"  # noqa: S608
        row = self._catalogue.row(sql, *kinds)
        return _job(row) if row else None

    def running(self) -> tuple[StoredJob, ...]:
        """The jobs that somebody works on."""
        self.settle()
        return tuple(_job(row) for row in self._catalogue.rows(f"SELECT {_COLUMNS} FROM jobs WHERE state = 'running'"))  # noqa: S608

    @contextmanager
    def working(self, number: int) -> Generator[StoredJob]:
        """Holds a queued job while the block works on it; the block says how it ends (`end`), or else it is stopped.

        Raises `UsageError` if it is not queued any more, or somebody else works on it.
        """
        lock = self._locks / f"{number}.lock"
        with ExitStack() as stack:
            try:
                make_folder(self._locks)
                stack.enter_context(held(lock, _WAIT))
            except HeldError:
                raise UsageError(f"job {number} is worked on already", "sosie job list") from None
            except OSError as error:
                raise disk_fault(self._locks, error) from error
            _held_here.add(lock)
            try:
                yield self._begun(number)
                with suppress(UsageError):
                    self.end(number, "stopped")
            finally:
                _held_here.discard(lock)
        self.settle()

    def end(self, number: int, state: State, message: str = "", hint: str = "") -> None:
        """Says how a running job ended. `UsageError` if it does not run."""
        sql = (
            "UPDATE jobs SET state = ?, finished = ?, message = ?, hint = ?, ending = 0, remaining = NULL "
            "WHERE id = ? AND state = 'running' RETURNING id"
        )
        with self._catalogue.write():
            if not self._catalogue.row(sql, state, now(), as_text(message), as_text(hint), number):
                raise UsageError(f"job {number} does not run", "sosie job list")
            self._catalogue.rows(_FORGET_PREVIEWS, number)
            self._tell(number, "state", {"state": state, "message": as_text(message), "hint": as_text(hint)})

    def cancel(self, number: int) -> StoredJob:
        """Ends a job that waits or was stopped, at once, and asks whoever works on it to end one that runs.

        `UsageError` if it is at its end.
        """
        self.settle()
        with self._catalogue.write():
            job = self._get(number)
            if not job.is_open:
                raise UsageError(f"job {number} is {job.state}; there is nothing to cancel", "sosie job list")
            if job.state == "running":
                self._catalogue.rows("UPDATE jobs SET ending = 1 WHERE id = ?", number)
            else:
                sql = "UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ?"
                self._catalogue.rows(sql, now(), number)
            self._tell(number, "state", {"state": "running" if job.state == "running" else "cancelled"})
        return self._get(number)

    def again(self, number: int) -> StoredJob:
        """Puts a job that was stopped, cancelled or failed before the others in the queue: it goes on where it was.

        `UsageError` for one that waits, runs or is done.
        """
        self.settle()
        with self._catalogue.write():
            job = self._get(number)
            if job.state not in ("stopped", "cancelled", "failed"):
                raise UsageError(f"job {number} is {job.state}; one that was stopped or failed can be continued")
            sql = (
                "UPDATE jobs SET state = 'queued', finished = NULL, message = '', hint = '', remaining = NULL, "
                "place = (SELECT coalesce(min(place), 1) - 1 FROM jobs WHERE state = 'queued') WHERE id = ?"
            )
            self._catalogue.rows(sql, number)
            self._tell(number, "state", {"state": "queued"})
        return self._get(number)

    def move(self, number: int, before: int | None) -> StoredJob:
        """Puts a queued job before another one, or at the end. `UsageError` if one of them does not wait."""
        with self._catalogue.write():
            for one in (number, *([before] if before is not None else [])):
                if (job := self._get(one)).state != "queued":
                    raise UsageError(f"job {one} is {job.state}; only jobs that wait have an order", "sosie job list")
            if before == number:
                return self._get(number)
            waiting = "FROM jobs WHERE state = 'queued' AND id <> ?"
            if before is None:
                place = self._catalogue.row(f"SELECT coalesce(max(place), 0) + 1 {waiting}", number)[0]
            else:
                after = self._get(before).place
                sql = f"SELECT max(place) {waiting} AND place < ?"
                earlier = self._catalogue.row(sql, number, after)[0]
                place = after - 1 if earlier is None else (earlier + after) / 2
            self._catalogue.rows("UPDATE jobs SET place = ? WHERE id = ?", place, number)
            self._tell(number, "state", {"state": "queued"})
        return self._get(number)

    def is_ending(self, number: int) -> bool:
        """Whether a job was asked to end."""
        row = self._catalogue.row("SELECT ending FROM jobs WHERE id = ?", number)
        return bool(row and row[0])

    def progress(self, number: int, what: str, share: tuple[float, float], remaining: float | None) -> None:
        """How far a job is: `share` is done and total. Earlier progress of it is forgotten."""
        done, total = share
        sql = "UPDATE jobs SET what = ?, done = ?, total = ?, remaining = ? WHERE id = ?"
        with self._catalogue.write():
            self._catalogue.rows(sql, as_text(what), done, total, remaining, number)
            self._catalogue.rows("DELETE FROM job_events WHERE job = ? AND kind = 'progress'", number)
            table = {"what": as_text(what), "done": done, "total": total, "remaining": remaining}
            self._tell(number, "progress", table)

    def preview(self, number: int, picture: str) -> None:
        """How the image looks that a job draws, a JPEG in base64. Only the newest is kept, until the job ends."""
        with self._catalogue.write():
            self._catalogue.rows(_FORGET_PREVIEWS, number)
            self._tell(number, "preview", {"picture": picture})

    def tell(self, number: int, kind: str, table: Mapping[str, Any]) -> None:
        """Keeps what was told of a job."""
        with self._catalogue.write():
            self._tell(number, kind, table)

    def events(self, after: int = 0, job: int | None = None) -> tuple[JobEvent, ...]:
        """What was told since the event `after`, of all jobs or of one, in order; at most `MOST`."""
        sql = "SELECT id, job, kind, json, created FROM job_events WHERE id > ? AND ? IN (0, job) ORDER BY id LIMIT ?"
        rows = self._catalogue.rows(sql, after, job or 0, MOST)
        return tuple(JobEvent(number, of, kind, json.loads(text), created) for number, of, kind, text, created in rows)

    def newest(self) -> int:
        """The number of the last event that was told, or 0."""
        row = self._catalogue.row("SELECT seq FROM sqlite_sequence WHERE name = 'job_events'")
        return int(row[0]) if row else 0

    def settle(self) -> None:
        """Jobs that run by the record and that nobody holds have lost their process: they are stopped now."""
        for (number,) in self._catalogue.rows("SELECT id FROM jobs WHERE state = 'running'"):
            lock = self._locks / f"{number}.lock"
            if lock not in _held_here:
                with suppress(HeldError, FileNotFoundError, UsageError), held(lock):
                    self._stop_lost(number)

    def _stop_lost(self, number: int) -> None:
        if self.is_ending(number):
            self.end(number, "cancelled")
        else:
            self.end(number, "stopped", "the process that worked on it ended", f"sosie job continue {number}")

    def _begun(self, number: int) -> StoredJob:
        sql = (
            "UPDATE jobs SET state = 'running', started = coalesce(started, ?), ending = 0, what = '', "
            "remaining = NULL WHERE id = ? AND state = 'queued' RETURNING id"
        )
        with self._catalogue.write():
            if not self._catalogue.row(sql, now(), number):
                raise UsageError(f"job {number} is {self._get(number).state}, and does not wait", "sosie job list")
            self._tell(number, "state", {"state": "running"})
        return self._get(number)

    def _get(self, number: int) -> StoredJob:
        row = self._catalogue.row(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", number)  # noqa: S608
        if row is None:
            raise NotFoundError(f"there is no job {number}", "sosie job list --all")
        return _job(row)

    def _tell(self, number: int, kind: str, table: Mapping[str, Any]) -> None:
        sql = "INSERT INTO job_events (job, kind, json, created) VALUES (?, ?, ?, ?)"
        self._catalogue.insert(sql, number, kind, as_json(dict(table)), now())


def _job(row: Any) -> StoredJob:
    number, kind, request, state, place, ending, *rest = row
    try:
        table = json.loads(request)
    except ValueError:
        raise StoreError(f"the request of job {number} is no JSON; expected what was stored") from None
    return StoredJob(number, kind, table, state, place, bool(ending), *rest)
