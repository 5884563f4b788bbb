"""What everything that takes time yields, for a command line and a page alike."""

from __future__ import annotations

from dataclasses import dataclass

from sosie.core.finding import Finding


@dataclass(frozen=True)
class Progress:
    """`done` of `total` of `what` is done; `total` is 0 where it is not known."""

    what: str
    done: float
    total: float

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.done / self.total if self.total else 0.0


@dataclass(frozen=True)
class Preview(Progress):
    """Progress with a picture of how far it is: an encoded image (`jpeg` or `png`), not decoded and not trusted."""

    data: bytes = b""
    format: str = ""


@dataclass(frozen=True)
class Note:
    """A sentence for the user that is no finding."""

    text: str


class Result:
    """Base of the nouns that a use case gives, while it goes on or at its end."""


Event = Finding | Progress | Note | Result
