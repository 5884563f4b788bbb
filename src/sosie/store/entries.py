"""Entries: what people decide, note, try and rent, in versions. Nothing is ever changed or deleted.

The catalogue itself refuses both (triggers of migration 6), so a newer state is one more row.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sosie.core.errors import StoreError
from sosie.store.catalogue import Catalogue, Connection, as_json, as_text, now

TABLES = ("entries",)

_COLUMNS = "kind, number, version, character, created, json"


@dataclass(frozen=True)
class Entry:
    """One version of an entry. `created` is when it was put on record, ISO 8601 in UTC; `character` may be empty."""

    kind: str
    number: int
    version: int
    character: str
    created: str
    table: dict[str, Any]


class EntryView:
    """The entries that `reader` sees; every method raises `StoreError`."""

    def __init__(self, reader: Connection) -> None:
        self._reader = reader

    def newest(self, kind: str) -> tuple[Entry, ...]:
        """Every entry of a kind in its newest version, the oldest entry first."""
        newest = "SELECT kind, number, max(version) FROM entries WHERE kind = ? GROUP BY number"
        return self._select(f"WHERE (kind, number, version) IN ({newest}) ORDER BY number", kind)

    def history(self, kind: str, number: int) -> tuple[Entry, ...]:
        """Every version of an entry, the oldest first; nothing if there is no such entry."""
        return self._select("WHERE kind = ? AND number = ? ORDER BY version", kind, number)

    def _select(self, rest: str, *values: Any) -> tuple[Entry, ...]:
        rows = self._reader.rows(f"SELECT {_COLUMNS} FROM entries {rest}", *values)  # noqa: S608
        return tuple(
            Entry(kind, number, version, character, created, json.loads(text))
            for kind, number, version, character, created, text in rows
        )


class Entries(EntryView):
    """The entries of the catalogue in `folder`, which a `Store` has made. One for each thread; close it.

    Every method raises `StoreError`.
    """

    def __init__(self, folder: Path) -> None:
        self._catalogue = Catalogue(folder / "catalogue.sqlite")
        super().__init__(self._catalogue)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the catalogue."""
        self._catalogue.close()

    @contextmanager
    def together(self) -> Generator[None]:
        """What is added in the block is on record as a whole, or nothing of it."""
        with self._catalogue.write():
            yield

    def add(self, kind: str, character: str, table: Mapping[str, Any]) -> Entry:
        """A new entry; it gets the next number of its kind. Within `together`."""
        number = self._catalogue.row("SELECT coalesce(max(number), 0) + 1 FROM entries WHERE kind = ?", kind)[0]
        return self._insert(kind, number, 1, character, table)

    def revise(self, known: Entry, table: Mapping[str, Any]) -> Entry:
        """The next version of an entry, within `together`; `StoreError` if `known` is not the newest any more."""
        newest = self.history(known.kind, known.number)[-1].version
        if newest != known.version:
            raise StoreError(
                f"{known.kind} {known.number} has changed meanwhile: it is of version {newest}, not {known.version}",
                "look at it and run the command again",
            )
        return self._insert(known.kind, known.number, newest + 1, known.character, table)

    def _insert(self, kind: str, number: int, version: int, character: str, table: Mapping[str, Any]) -> Entry:
        text, created = as_json(dict(table)), now()
        values = (kind, number, version, as_text(character), created, text)
        self._catalogue.insert(f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", *values)  # noqa: S608
        return Entry(kind, number, version, as_text(character), created, json.loads(text))
