"""The queue: what page, command line and other programs do with jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sosie.api.jobs.requests import check_request, read_request
from sosie.core.schema import to_table
from sosie.store import Store
from sosie.store.jobs import Jobs, StoredJob
from sosie.workspace.workspace import Workspace


def open_jobs(workspace: Workspace) -> Jobs:
    """The queue of a workspace, whose store is made if need be. One for each thread; close it."""
    Store.open(workspace.state).close()
    return Jobs(workspace.state)


def add_job(workspace: Workspace, kind: str, request: Mapping[str, Any]) -> StoredJob:
    """Puts a job at the end of the queue, checked as far as that costs nothing. Raises `SosieError`."""
    asked = read_request(kind, request)
    check_request(workspace, asked)
    with open_jobs(workspace) as jobs:
        return jobs.add(kind, to_table(asked))


def list_jobs(workspace: Workspace, only_open: bool = False) -> tuple[StoredJob, ...]:
    """Those that run, the queue in its order, then those that were stopped, and the others, the newest first."""
    with open_jobs(workspace) as jobs:
        return jobs.all(only_open)


def cancel_job(workspace: Workspace, number: int) -> StoredJob:
    """Ends a job that waits, was stopped or runs; what it had finished stays."""
    with open_jobs(workspace) as jobs:
        return jobs.cancel(number)


def continue_job(workspace: Workspace, number: int) -> StoredJob:
    """Puts a job that was stopped, cancelled or failed before the others in the queue."""
    with open_jobs(workspace) as jobs:
        return jobs.again(number)


def move_job(workspace: Workspace, number: int, before: int | None = None) -> StoredJob:
    """Puts a waiting job before another one, or at the end of the queue."""
    with open_jobs(workspace) as jobs:
        return jobs.move(number, before)
