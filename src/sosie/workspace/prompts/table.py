"""Tables as spreadsheets write them: commas, semicolons or tabs between the fields, quotes around what holds one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.core.errors import ConfigError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


@dataclass(frozen=True)
class Row:
    """A line of a file, with its number, as fields by their names."""

    line: int
    fields: Mapping[str, Any]


def read_table(text: str, path: Path) -> list[Row]:
    """The rows of a table whose first names the fields, `prompt` among them; empty rows and cells are left out.

    Raises `ConfigError` that names the row, or the header if no separator makes `prompt` a field of it.
    """
    text, skipped = _without_hint(text)
    if not text.strip():
        return []
    separator = _separator(text, path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[Row] = []
    header: list[str] = []
    begun = 1
    try:
        for cells in reader:
            place, begun = begun + skipped, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(cells, path)
                continue
            rows.append(Row(place, _fields(header, cells, f"{path}:{place}", separator)))
    except csv.Error as error:
        message = f"{path}:{begun + skipped}: the row cannot be read: {error}"
        raise ConfigError(message, 'a field with quotes in it is written "so ""quoted"" here"') from None
    return rows


def _without_hint(text: str) -> tuple[str, int]:
    """The text without the line `sep=;` that a spreadsheet may begin with, and how many lines that was."""
    hint = re.match(r"\s*\"?sep=.\"?[ \t]*(?:\r\n|\n|\r)", text)
    return (text[hint.end() :], 1) if hint else (text, 0)


def _separator(text: str, path: Path) -> str:
    first = next(line for line in re.split(r"\r\n|\n|\r", text) if line.strip())
    for separator in SEPARATORS:
        if _is_prompt_in(first, separator):
            return separator
    seen = [name for letter, name in SEPARATORS.items() if letter in first]
    how = f" (separated by {' or '.join(seen)})" if seen else ""
    raise ConfigError(
        f"{path}: its first row names no field 'prompt'{how}: {first[:80]!r}",
        "write the names of the fields into the first row: prompt,name,seed",
    )


def _is_prompt_in(first: str, separator: str) -> bool:
    try:
        cells = next(csv.reader([first], delimiter=separator))
    except csv.Error:
        return False
    return any(
        re.sub(r"[\s_-]+", "_", cell.strip().lower()) in ("prompt", "positive", "positive_prompt") for cell in cells
    )


def _header(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise ConfigError(f"{path}: field {names.index('') + 1} of the first row has no name")
    return names


def _fields(header: list[str], cells: list[str], where: str, separator: str) -> dict[str, str]:
    """The cells by name. Raises `ConfigError` for more than the header names."""
    while len(cells) > len(header) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) > len(header):
        message = f"{where}: more fields than the header has; quote prompts that hold {SEPARATORS[separator]}"
        hint = "quote prompts that hold commas" if separator == "," else ""
        raise ConfigError(message, hint)
    pairs = zip(header, cells, strict=False)
    return {name: cell.strip() for name, cell in pairs if cell.strip()}
