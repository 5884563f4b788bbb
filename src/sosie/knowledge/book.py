"""The book: every entry as its noun, under an id such as D3, in versions of which the newest counts."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar, cast

from sosie.core.errors import ConfigError, NotFoundError, StoreError, UsageError, nearest
from sosie.core.ranges import out_of_range
from sosie.core.schema import from_table, to_table
from sosie.knowledge.decision import Decision
from sosie.knowledge.key_file import KeyFile
from sosie.knowledge.note import Note
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.knowledge.trial import Trial
from sosie.store.entries import Entries, Entry, EntryView

Noun = Decision | Note | Task | Trial | Rental | KeyFile
T = TypeVar("T", Decision, Note, Task, Trial, Rental, KeyFile)

KINDS: dict[type, tuple[str, str]] = {
    Decision: ("decision", "D"),
    Note: ("note", "N"),
    Task: ("task", "T"),
    Trial: ("trial", "X"),
    Rental: ("rental", "M"),
    KeyFile: ("file", "F"),
}
"""What the store calls each noun, and the letter of its ids."""


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A noun on record: its id, its version, and when that was written (ISO 8601 in UTC)."""

    id: str
    noun: T
    entry: Entry

    @property
    def written(self) -> str:
        """When this version was put on record."""
        return self.entry.created


class BookView:
    """The nouns that `entries` hold; every method raises `StoreError`."""

    def __init__(self, entries: EntryView) -> None:
        self._entries = entries

    def all(self, kind: type[T], character: str = "") -> tuple[Kept[T], ...]:
        """Every noun of a kind, in the order of their numbers; of a character: its own, and those of nobody."""
        found = (_kept(kind, entry) for entry in self._entries.newest(KINDS[kind][0]))
        return tuple(one for one in found if not character or one.noun.character in ("", character))

    def find(self, kind: type[T], name: str) -> Kept[T]:
        """The noun of that id; `NotFoundError` that names the nearest."""
        return self.history(kind, name)[-1]

    def history(self, kind: type[T], name: str) -> tuple[Kept[T], ...]:
        """Every version of the noun of that id, the oldest first; `NotFoundError` if there is none."""
        word, letter = KINDS[kind]
        match = re.fullmatch(rf"{letter}([1-9][0-9]{{0,8}})", name.strip().upper(), re.ASCII)
        versions = self._entries.history(word, int(match[1])) if match else ()
        if not versions:
            known = [one.id for one in self.all(kind)]
            raise NotFoundError(f"there is no {word} '{name[:80]}'{nearest(name, known)}")
        return tuple(_kept(kind, entry) for entry in versions)


class Book(BookView):
    """The book of the store in `folder`, to be written too. One for each thread; close it."""

    def __init__(self, folder: Path) -> None:
        self._writer = Entries(folder)
        super().__init__(self._writer)

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the catalogue."""
        self._writer.close()

    @contextmanager
    def together(self) -> Generator[None]:
        """What is written in the block is on record as a whole, or nothing of it."""
        with self._writer.together():
            yield

    def add(self, noun: T) -> Kept[T]:
        """A new entry, within `together`. Raises `UsageError` for a number that is out of its range."""
        _expect_sound(noun)
        return _kept(type(noun), self._writer.add(KINDS[type(noun)][0], noun.character, to_table(noun)))

    def revise(self, kept: Kept[T], noun: T) -> Kept[T]:
        """The next version of an entry, within `together`; `StoreError` if somebody else has written one meanwhile."""
        _expect_sound(noun)
        return _kept(type(noun), self._writer.revise(kept.entry, to_table(noun)))


def _kept(kind: type[T], entry: Entry) -> Kept[T]:
    name = f"{KINDS[kind][1]}{entry.number}"
    try:
        return Kept(name, from_table(kind, entry.table, f"{entry.kind} {name}"), entry)
    except ConfigError as error:
        raise StoreError(f"{error.message}; expected an entry of this version", "pip install --upgrade sosie") from None


def _expect_sound(noun: Noun) -> None:
    for complaint in out_of_range(cast("object", noun), ""):
        raise UsageError(complaint)
