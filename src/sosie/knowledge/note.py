"""A Note: something read or learned, with where from, when, and until when it may be believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sosie.knowledge.days import not_days


@dataclass(frozen=True)
class Note:
    """`date` is the day on which it was read or learned, `expires` the last on which it counts (empty: none), ISO 8601.

    `source` is where it comes from; `about` is what it is about: a topic, or a training run ("training 4").
    """

    text: str
    date: str
    character: str = ""
    about: str = ""
    source: str = ""
    expires: str = ""

    def is_expired(self, today: str) -> bool:
        """Whether the day `today` (ISO 8601) is past its last one."""
        return bool(self.expires) and today > self.expires

    def conflicts(self) -> Iterator[str]:
        """As `core.ranges.Consistent`."""
        return not_days(date=self.date, expires=self.expires)
