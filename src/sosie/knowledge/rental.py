"""A Rental: a machine that was paid for, what it did and what broke. What rents machines can write its leases here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from sosie.core.ranges import Range
from sosie.knowledge.days import as_time, not_days


@dataclass(frozen=True)
class Rental:
    """`label` tells it from the others of its provider, as that of a lease does. `price` is in US dollars an hour.

    `started` and `ended` are ISO 8601 with a time zone, or days; `ended` is empty while it is paid for. `hours` are
    those that were billed, where the provider or a person says so. `lease` is the provider's own number of it.
    """

    label: str
    gpu: str
    price: Annotated[float, Range(0, 1e6)]
    started: str
    ended: str = ""
    character: str = ""
    provider: str = ""
    place: str = ""
    address: str = ""
    hours: Annotated[float | None, Range(0, 1e6)] = None
    use: str = ""
    problems: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    lease: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it is still paid for, as far as the record knows."""
        return not self.ended

    @property
    def billed_hours(self) -> float | None:
        """The hours that were said, or those from start to end; None where neither is known to the hour."""
        if self.hours is not None:
            return self.hours
        started, ended = as_time(self.started), as_time(self.ended)
        return None if started is None or ended is None else max(0.0, (ended - started).total_seconds() / 3600)

    @property
    def cost(self) -> float | None:
        """US dollars; None where the hours are not known."""
        return None if self.billed_hours is None else self.billed_hours * self.price

    def conflicts(self) -> Iterator[str]:
        """As `core.ranges.Consistent`."""
        days = {"started": self.started, "ended": self.ended}
        yield from not_days(**{name: text for name, text in days.items() if as_time(text) is None})
