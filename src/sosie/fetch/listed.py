"""Files fetched one after another by a process that nobody watches: what a machine does for itself.

`python -m sosie.fetch.listed LIST`: LIST is a JSON list of `Task` tables. How it stands is written to `LIST.status`.
Its exit code is 1 if a file could not be had.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import SosieError, UsageError
from sosie.core.schema import from_table
from sosie.fetch.download import Wanted, downloading
from sosie.fetch.hubs import Hubs
from sosie.fetch.resolve import resolve
from sosie.fetch.retries import RetryPolicy
from sosie.fetch.sources import LocalFile, parse_source
from sosie.fetch.web import Web
from sosie.files.regular import open_regular
from sosie.files.whole import make_file, write_json

WHOLE = ".whole"
"""The file beside one that is whole and verified."""

EVERY = 1.0
"""Seconds between two notes of how far a download is."""


@dataclass(frozen=True)
class Task:
    """A file to fetch: its source (`fetch.sources`), what it must be, and the absolute path that it gets."""

    source: str
    sha256: str
    bytes: int
    path: str


def fetch_all(tasks: Sequence[Task], status: Path, patience: RetryPolicy | None = None) -> int:
    """Fetches every file, whole and verified or not at all; how many could not be had. `status` says how it stands."""
    problems: dict[str, str] = {}
    done = 0
    with Web(Hubs.from_environment(), patience) as web:
        for task in tasks:
            try:
                told = 0.0
                for step in _fetching(web, task):
                    if time.monotonic() - told > EVERY:
                        told = time.monotonic()
                        write_json(status, {"done": done + int(step), "problems": problems})
                make_file(Path(task.path).parent / WHOLE)
            except SosieError as error:
                problems[task.sha256] = f"{error.message}; {error.hint}" if error.hint else error.message
            done += task.bytes
    write_json(status, {"done": done, "problems": problems})
    return len(problems)


def _fetching(web: Web, task: Task) -> Generator[float]:
    """How many bytes are there, as they come."""
    address = parse_source(task.source, web.hubs)
    if isinstance(address, LocalFile):
        raise UsageError(f"'{task.source}' is a file of another machine")
    found = resolve(web, address, task.sha256)
    for step in downloading(web, Wanted(found.url, found.text, task.bytes, task.sha256), Path(task.path)):
        yield step.done


def main() -> None:
    """The list of the command line."""
    file = Path(sys.argv[1])
    with open_regular(file) as stream:
        tables = json.loads(stream.read())
    tasks = [from_table(Task, table, str(file)) for table in tables]
    sys.exit(1 if fetch_all(tasks, file.with_name(f"{file.name}.status")) else 0)


if __name__ == "__main__":
    main()
