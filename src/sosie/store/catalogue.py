"""The catalogue: one SQLite file, opened safely, migrated by numbered SQL files.

WAL with `synchronous=FULL`: a committed transaction survives a killed process and a power cut.
Sources: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html#pragma_synchronous.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from sosie.core.errors import StoreError
from sosie.core.schema import to_table
from sosie.store.faults import catalogue_fault

_WAIT = 30.0
"""Seconds to wait for another process's transaction, which takes milliseconds."""

_STRICT_SINCE = (3, 37)


class Connection:
    """A connection to the catalogue at `path`. One for each thread; close it.

    Every method raises `StoreError`, also for a disk that is full and a file that is damaged.
    """

    def __init__(self, path: Path, database: str, uri: bool = False) -> None:
        self.path = path
        if sqlite3.sqlite_version_info < _STRICT_SINCE:
            raise StoreError(
                f"{path} cannot be opened: this Python's SQLite is {sqlite3.sqlite_version}; expected 3.37 or newer",
                "use a Python that was built with a newer SQLite",
            )
        with self._faults():
            self._db = sqlite3.connect(database, timeout=_WAIT, isolation_level=None, uri=uri)
        try:
            with self._faults():
                self._begin()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Ends the connection; the last one to close folds the WAL into the file."""
        self._db.close()

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows that a statement gives, as tuples."""
        with self._faults():
            return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> Any:
        """The first row that a statement gives, or None."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def _begin(self) -> None:
        """What a new connection does first."""

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _faults(self) -> Generator[None, None, None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # our own mistake, such as use after close
        except sqlite3.Error as error:
            raise catalogue_fault(self.path, error) from error


class Snapshot(Connection):
    """The catalogue as it is now, to be read: what is written meanwhile is not seen.

    `StoreError` if there is none, or one of another version (`Catalogue` makes and migrates). Close it soon:
    while it is open, the WAL grows.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StoreError(f"{path} does not exist; expected the catalogue of a workspace that was used before")
        super().__init__(path, f"{path.absolute().as_uri()}?mode=ro", uri=True)

    def _begin(self) -> None:
        self._db.execute("BEGIN")
        if (version := self._version()) != (newest := len(migrations())):
            raise StoreError(f"{self.path} is of version {version}; expected version {newest}")


class Catalogue(Connection):
    """The catalogue, made or migrated to the newest version if need be, to be read and written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, str(path))

    @contextmanager
    def write(self) -> Generator[None, None, None]:
        """One transaction that holds the write lock: all of it is stored, or nothing."""
        with self._faults():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after a full disk and some I/O errors.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def insert(self, sql: str, *values: Any) -> int:
        """Runs an INSERT and returns the new row's number."""
        with self._faults():
            return self._db.execute(sql, values).lastrowid or 0

    def insert_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Runs an INSERT for each of `rows`."""
        with self._faults():
            self._db.executemany(sql, rows)

    def _begin(self) -> None:
        self._prepare()
        self._migrate()

    def _prepare(self) -> None:
        deadline = time.monotonic() + _WAIT
        while True:
            # Two processes that make the file at once: the change to WAL does not wait by itself.
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
        steps = migrations()
        if self._version() > len(steps):
            raise StoreError(
                f"{self.path} is of version {self._version()}, made by a newer Sosie; "
                f"expected version {len(steps)} or older",
                "pip install --upgrade sosie, or use --workspace for another store",
            )
        for version, sql in enumerate(steps, start=1):
            if self._version() >= version:
                continue
            with self.write():
                if self._version() >= version:  # another process was faster
                    continue
                for statement in statements(sql):
                    self._db.execute(statement)
                self._db.execute("INSERT INTO migrations VALUES (?, ?)", (version, now()))
                self._db.execute(f"PRAGMA user_version = {version}")


def migrations() -> list[str]:
    """The SQL of every migration; the file `NNNN_name.sql` is version NNNN, counted from 1."""
    folder = resources.files("sosie.store") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    for version, file in enumerate(files, start=1):
        if not file.name.startswith(f"{version:04d}_"):
            raise StoreError(f"migration {file.name} is out of order; expected number {version:04d}")
    return [file.read_text(encoding="utf-8") for file in files]


def statements(sql: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit the transaction."""
    part = ""
    for line in sql.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""
    if part.strip():
        yield part


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds: sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def as_json(value: Any) -> str:
    """JSON of a noun or of plain values, in ASCII, so that any text can be stored. No NaN."""
    return json.dumps(to_table(value), allow_nan=False)


def as_text(value: object) -> str:
    """`value` as text that UTF-8 can hold: bytes of a file name that are no UTF-8 are escaped."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
