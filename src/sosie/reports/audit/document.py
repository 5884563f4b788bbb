"""A document: sections of tables, lines and figures, from which page and Markdown are made alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["", "good", "bad", "doubt", "faint"]


@dataclass(frozen=True)
class Cell:
    """A text. `full` is what it is short for, `code` one that a machine made; `quoted` is said in English."""

    text: str
    mark: Mark = ""
    full: str = ""
    code: bool = False
    quoted: bool = False
    number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns, each as long as `columns`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Lines:
    """One line after another."""

    cells: tuple[Cell, ...]
    title: str = ""
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True)
class Bar:
    """A value from 0 to 1 of the figure's width, with its interval where there is one, and what is written to it."""

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Bars:
    """Bars below each other; `title` says what they measure."""

    title: str
    bars: tuple[Bar, ...]
    kind: Literal["bars"] = "bars"


Block = Table | Lines | Bars


@dataclass(frozen=True)
class Section:
    """A numbered section; `empty` is what is said where it has no block."""

    number: int
    title: str
    blocks: tuple[Block, ...]
    empty: str
    lead: str = ""


@dataclass(frozen=True)
class Document:
    """The whole: `summary` comes before the sections. `language` is that of its words."""

    language: str
    title: str
    lead: str
    summary_title: str
    contents_title: str
    summary: tuple[Block, ...]
    sections: tuple[Section, ...]
    foot: str
