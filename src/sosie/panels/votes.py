"""Votes: a file of JSON lines that only ever grows. Who voted is a random number, never a name or an address."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sosie.core.errors import ConfigError, StoreError
from sosie.core.schema import from_table, to_table
from sosie.files.foreign import parse_object
from sosie.files.lock import HeldError, held
from sosie.panels.panel import DIGEST

Choice = Literal["left", "right", "neither"]
"""`neither`: the person cannot tell."""

PERSON = re.compile("[0-9a-f]{16}")
WAIT = 10.0
LONGEST_LINE = 1_000
MOST_BYTES = 200_000_000


@dataclass(frozen=True)
class Vote:
    """One answer: `pair`, `left` and `right` are places in the panel whose id is `panel`.

    `milliseconds` is how long the person looked. A later vote of a person on a pair takes the place of the earlier.
    """

    panel: str
    person: str
    pair: int
    left: int
    right: int
    choice: Choice
    milliseconds: int

    def __post_init__(self) -> None:
        if not (DIGEST.fullmatch(self.panel) and PERSON.fullmatch(self.person)):
            raise ConfigError("a vote names its panel by 64, and its person by 16 hexadecimal digits")

    @property
    def chosen(self) -> int | None:
        """The image that was chosen, None if the person could not tell."""
        return {"left": self.left, "right": self.right, "neither": None}[self.choice]


def new_person() -> str:
    """A random number for somebody who begins to vote."""
    return secrets.token_hex(8)


class Votes:
    """The votes in one file. Several processes may hold it; every method raises `StoreError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, vote: Vote) -> None:
        """Adds a vote, on the disk when this returns. Nothing that stands in the file is touched."""
        line = json.dumps(to_table(vote), allow_nan=False).encode() + b"\n"
        try:
            with held(self.path.with_suffix(".lock"), WAIT):
                descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    # The line that a killed process left unfinished stays, and ends here.
                    os.write(descriptor, line if self._is_ended(descriptor) else b"\n" + line)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except (OSError, HeldError) as error:
            why = getattr(error, "strerror", None) or "another process holds it"
            raise StoreError(f"a vote could not be written to {self.path}: {why}", "free some space") from None

    def read(self) -> tuple[Vote, ...]:
        """All votes in the order in which they came. A line that was never finished is no vote."""
        return tuple(self._votes())

    def last(self, panel: str) -> dict[str, dict[int, Vote]]:
        """For each person the vote that counts, by pair, of those for this panel."""
        found: dict[str, dict[int, Vote]] = {}
        for vote in self._votes():
            if vote.panel == panel:
                found.setdefault(vote.person, {})[vote.pair] = vote
        return found

    def _votes(self) -> Iterator[Vote]:
        if not self.path.exists():
            return
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise StoreError(f"{self.path} is larger than {MOST_BYTES:,} bytes; expected votes alone")
            text = self.path.read_bytes()
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror or error}") from None
        for number, line in enumerate(text.split(b"\n"), 1):
            where = f"{self.path}, line {number}"
            table = parse_object(line, LONGEST_LINE)
            if table is None:
                continue  # it was being written when the process ended
            try:
                yield from_table(Vote, table, where)
            except ConfigError as error:
                raise StoreError(error.message) from None

    @staticmethod
    def _is_ended(descriptor: int) -> bool:
        size = os.fstat(descriptor).st_size
        if size == 0:
            return True
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1) == b"\n"
