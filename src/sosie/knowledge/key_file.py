"""A KeyFile: a file that the work stands on, also one that is not here, and what the doctor said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from sosie.core.finding import Finding
from sosie.core.ranges import Range
from sosie.knowledge.days import not_days


@dataclass(frozen=True)
class KeyFile:
    """`size` in bytes; `sha256` is that of its bytes, empty where they were not at hand.

    `header` is the SHA-256 of its stripped header (`files.strip`), where only that was read. `what` is what it is, in
    a few words, `use` what it is for.
    """

    name: str
    date: str
    character: str = ""
    size: Annotated[int | None, Range(0, 2**60)] = None
    sha256: str = ""
    header: str = ""
    what: str = ""
    use: str = ""
    findings: tuple[Finding, ...] = ()

    def conflicts(self) -> Iterator[str]:
        """As `core.ranges.Consistent`."""
        return not_days(date=self.date)
