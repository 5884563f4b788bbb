"""Notes, tasks, trials and rented machines: put on record, listed, and brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

from sosie.core import Finding
from sosie.core.address import conceal
from sosie.core.finding import Rule
from sosie.knowledge.book import Book, Kept
from sosie.knowledge.days import today
from sosie.knowledge.decision import Decision
from sosie.knowledge.key_file import KeyFile
from sosie.knowledge.note import Note
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.knowledge.trial import Trial
from sosie.workspace.characters import load_character
from sosie.workspace.session import Session

V004 = Rule("SOS-V004", "warning", "A note has expired")

T = TypeVar("T", Decision, Note, Task, Trial, Rental, KeyFile)


def put(session: Session, noun: T) -> Kept[T]:
    """Puts a noun on record. Its character must exist; addresses in it lose what may be secret.

    Raises `NotFoundError` and `UsageError` for what is not so.
    """
    name = load_character(session.workspace, noun.character).name if noun.character else ""
    with Book(session.store.folder) as book, book.together():
        return book.add(concealed(replace(noun, character=name)))


def change(session: Session, kind: type[T], name: str, do: Callable[[T], T]) -> Kept[T]:
    """Puts the next version of an entry on record; the others stay. `NotFoundError` if there is no such entry."""
    with Book(session.store.folder) as book:
        kept = book.find(kind, name)
        with book.together():
            return book.revise(kept, concealed(do(kept.noun)))


def entries(session: Session, kind: type[T], character: str = "") -> tuple[Kept[T], ...]:
    """Every entry of a kind, or those of a character and of nobody."""
    with Book(session.store.folder) as book:
        return book.all(kind, character)


def expired(notes: tuple[Kept[Note], ...]) -> tuple[Finding, ...]:
    """SOS-V004 for the notes that nobody may believe any more."""
    day = today()
    hint = "look whether it still holds, and add a new note"
    return tuple(
        V004.at(one.id, f"{one.id} counted until {one.noun.expires}: {one.noun.text}", hint)
        for one in notes
        if one.noun.is_expired(day)
    )


def concealed(noun: T) -> T:
    """The noun without what may be secret in the addresses of its texts: they are often pasted with a token."""
    texts: dict[str, object] = {}
    for name, value in vars(noun).items():
        if isinstance(value, str):
            texts[name] = conceal(value)
        elif isinstance(value, tuple) and all(isinstance(one, str) for one in cast("tuple[object, ...]", value)):
            texts[name] = tuple(map(conceal, cast("tuple[str, ...]", value)))
    return replace(noun, **texts)
