"""Days and times as the book holds them: ISO 8601, a time with its zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

LENGTH = len("2026-01-31")


def today() -> str:
    """The day, in UTC."""
    return datetime.now(UTC).date().isoformat()


def as_time(text: str) -> datetime | None:
    """The time with its zone that a text says; None for a day alone, and for what is neither."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if len(text) > LENGTH and found.tzinfo is not None else None


def not_days(**fields: str) -> Iterator[str]:
    """What is wrong with those texts that are to be days (2026-01-31) or empty, as `conflicts` says it."""
    for name, text in fields.items():
        try:
            right = not text or (len(text) == LENGTH and bool(date.fromisoformat(text)))
        except ValueError:
            right = False
        if not right:
            yield f"{name} = '{text[:40]}' is not a day such as 2026-01-31"
