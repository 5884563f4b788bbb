"""The page of a panel: what people preferred, and every score beside them. One file, no script."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sosie.core.errors import DeliveryError
from sosie.panels.resampling import Estimate
from sosie.panels.results import Results
from sosie.panels.thresholds import Fitted
from sosie.reports.page import draw_page
from sosie.reports.place import publish
from sosie.reports.words import Language, Words, words_of

ROOM = "panel"
WIDTH, ROW = 480, 30
"""Of the figure of cells, in its own units."""


@dataclass(frozen=True)
class Bar:
    """A cell in the figure: where its chance and the interval stand; `low` and `high` are None where there is none."""

    name: str
    y: float
    chance: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class View:
    """A panel's results in a language."""

    results: Results
    words: Words

    def share(self, one: Estimate) -> str:
        """A share with its interval and what it rests on."""
        words = self.words
        if one.value is None:
            return words("unknown")
        if one.low is None or one.high is None:
            return f"{words.share(one.value)} ({words('few')}; n {one.n})"
        return f"{words.share(one.value)} ({words.between(100 * one.low, 100 * one.high, 0)}; n {one.n})"

    def log(self, one: Estimate) -> str:
        """A log strength with its interval."""
        words = self.words
        if one.value is None:
            return words("unknown")
        interval = "" if one.low is None else f" ({words.between(one.low, one.high, 2, True)})"
        return f"{words.number(one.value, 2, True)}{interval}"

    def fitted(self, one: Fitted) -> tuple[str, str]:
        """A threshold, and for how many of the other votes it holds; or why there is none."""
        words = self.words
        if one.value is None or one.held is None:
            return words("none"), words.said(one.why_not)
        held = one.held
        shares = {"share": words.share(held.rate), "low": words.share(held.low), "high": words.share(held.high)}
        return words.number(one.value, 3), words("held_value", n=held.n, **shares)

    @cached_property
    def undecided(self) -> str:
        """How many could not tell, and how often the left image was chosen."""
        left = self.results.left
        shares = {"left": left.rate, "low": left.low, "high": left.high, "share": self.results.undecided}
        return self.words("undecided", **{name: self.words.share(value) for name, value in shares.items()})

    @cached_property
    def bars(self) -> tuple[Bar, ...]:
        """The cells that have a chance, as they stand in the figure."""

        def at(value: float | None) -> float | None:
            return None if value is None else round(WIDTH * value, 1)

        known = [one for one in self.results.strengths if one.chance.value is not None]
        return tuple(
            Bar(one.cell, ROW * (row + 0.5), at(one.chance.value) or 0.0, at(one.chance.low), at(one.chance.high))
            for row, one in enumerate(known)
        )


def panel_page(results: Results, language: Language = "en") -> str:
    """The page: who voted, cells by what people preferred, scores beside people, thresholds by people."""
    words = words_of(ROOM, language)
    panel = results.panel
    title = words("title", name=panel.name)
    figure = {"width": WIDTH, "height": ROW * max(1, len(results.strengths))}
    return draw_page("panel.html", title, panel.id, view=View(results, words), words=words, figure=figure)


def write_panel(results: Results, path: Path, language: Language = "en") -> Path:
    """Writes the page, whole or not at all; under another name where the file is not this panel's."""
    page = panel_page(results, language)
    try:
        return publish(path, results.panel.id, lambda stream: stream.write(page.encode()))
    except OSError as error:
        message = f"the page could not be written to {path}: {error.strerror or error}"
        raise DeliveryError(message, "choose another --out") from None
