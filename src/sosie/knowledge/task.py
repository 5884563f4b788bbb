"""A Task: something to do, what it may bring and what it will cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from sosie.core.ranges import Range
from sosie.knowledge.days import not_days

State = Literal["open", "blocked", "done", "dropped"]


@dataclass(frozen=True)
class Task:
    """`gain` is how much of what is still missing it would bring, in percent, and `chance` how likely, in percent.

    `hours` go by until it is done, `money` is spent in US dollars. All four are what somebody expects, and None where
    nobody said. `experiment` is the one that would close it, `blocked_by` what stops it.
    """

    title: str
    date: str
    character: str = ""
    state: State = "open"
    why: str = ""
    gain: Annotated[float | None, Range(0, 100)] = None
    chance: Annotated[float, Range(0, 100)] = 100.0
    hours: Annotated[float | None, Range(0, 1e6)] = None
    money: Annotated[float, Range(0, 1e9)] = 0.0
    experiment: str = ""
    blocked_by: str = ""

    @property
    def expected_gain(self) -> float | None:
        """Percent of what is missing, times the chance; None where no gain was said."""
        return None if self.gain is None else self.gain * self.chance / 100

    def worth(self, hour: float) -> float | None:
        """Expected gain for each US dollar, an hour counted as `hour` dollars; None where gain or hours are not said.

        What costs less than a cent is counted as a cent.
        """
        if self.expected_gain is None or self.hours is None:
            return None
        return self.expected_gain / max(0.01, self.money + self.hours * hour)

    def conflicts(self) -> Iterator[str]:
        """As `core.ranges.Consistent`."""
        return not_days(date=self.date)
