"""A Trial: something that was tried by hand, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from sosie.core.finding import Finding
from sosie.core.ranges import Range
from sosie.knowledge.days import not_days

Outcome = Literal["works", "fails", "unclear"]


@dataclass(frozen=True)
class Trial:
    """`component` is what was tried (of one `series`, if several tries asked one question), `setting` how.

    `value` with its interval `low` to `high` is what `measured_by` measured; a judge that is empty is somebody's eye,
    and there is no value then. `cause` says why it failed, `findings` are the doctor's about it.
    """

    component: str
    result: str
    outcome: Outcome
    date: str
    character: str = ""
    series: str = ""
    setting: str = ""
    measured_by: str = ""
    value: Annotated[float | None, Range(-1e9, 1e9)] = None
    low: Annotated[float | None, Range(-1e9, 1e9)] = None
    high: Annotated[float | None, Range(-1e9, 1e9)] = None
    cause: str = ""
    findings: tuple[Finding, ...] = ()

    def conflicts(self) -> Iterator[str]:
        """As `core.ranges.Consistent`."""
        yield from not_days(date=self.date)
        if self.value is not None and not self.measured_by:
            yield f"value = {self.value:g} is not of a judge: an eye gives no figure"
