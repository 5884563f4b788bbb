"""A document as Markdown: GitHub's tables, every letter of the record's texts as it is."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from sosie.core.printable import printable
from sosie.reports.audit.document import Block, Cell, Document, Lines, Table

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")

_SPACE = re.compile(r"[ \t\r\n\f\v]+")
"""What Markdown would break a row of a table by; spaces that do not break a line stay."""


def markdown(document: Document, mark: str) -> str:
    """The text; `mark` stands in its first line (`reports.place`)."""
    return "\n".join(_lines(document, mark)) + "\n"


def _lines(document: Document, mark: str) -> Iterator[str]:
    yield f"<!-- {mark} -->"
    yield f"# {_plain(document.title)}"
    yield ""
    yield _plain(document.lead)
    yield ""
    yield f"## {document.summary_title}"
    for block in document.summary:
        yield from _block(block)
    for section in document.sections:
        yield ""
        yield f"## {section.number}. {section.title}"
        yield ""
        yield _plain(section.lead if section.blocks else section.empty)
        for block in section.blocks:
            yield from _block(block)
    yield ""
    yield _plain(document.foot)


def _block(block: Block) -> Iterator[str]:
    yield ""
    if block.title:
        yield f"**{_plain(block.title)}**"
        yield ""
    if isinstance(block, Table):
        yield f"| {' | '.join(map(_plain, block.columns))} |"
        yield f"|{' --- |' * len(block.columns)}"
        for row in block.rows:
            yield f"| {' | '.join(map(_cell, row))} |"
    elif isinstance(block, Lines):
        yield from (f"- {_cell(cell)}" for cell in block.cells)
    else:
        yield from (f"- {_plain(bar.label)}: {_plain(bar.text)}" for bar in block.bars)


def _cell(cell: Cell) -> str:
    """The text, and what it is short for where that is one digest."""
    text = cell.full if cell.full.startswith(cell.text) and cell.code else cell.text
    plain = _plain(text)
    return f"**{plain}**" if cell.mark == "bad" else plain


def _plain(text: str) -> str:
    return html.escape(_SPECIAL.sub(r"\\\1", printable(_SPACE.sub(" ", text.strip()))), quote=False)
