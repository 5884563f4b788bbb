"""Prompt files: one prompt a line, as txt, csv or jsonl."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sosie.core.errors import ConfigError, SosieError, nearest
from sosie.files.foreign import object_or_none, parse_json
from sosie.files.regular import read_text


@dataclass(frozen=True)
class PromptLine:
    """One line of a prompt file. `name` names its images; `size` is WIDTHxHEIGHT."""

    prompt: str
    name: str = ""
    seed: int | None = None
    size: str = ""

    @property
    def width_height(self) -> tuple[int | None, int | None]:
        """The size in pixels, or (None, None): the recipe's."""
        return parse_size(self.size) if self.size else (None, None)


def parse_size(text: str) -> tuple[int, int]:
    """`1024x1536` as (1024, 1536)."""
    match = re.fullmatch(r"(\d{2,5})[xX*](\d{2,5})", text.strip())
    if not match:
        raise ConfigError(f"size '{text}' is not WIDTHxHEIGHT, for example 1024x1536")
    return int(match[1]), int(match[2])


def read_prompts(path: Path) -> tuple[PromptLine, ...]:
    """The lines of a `.txt` (a prompt a line, `#` starts a comment), `.csv` (with a header) or `.jsonl` file.

    Names are unique: a line without one gets its number. Raises `ConfigError` naming the line.
    """
    text = read_text(path, what="the prompt file")
    readers = {".txt": _from_txt, ".csv": _from_csv, ".jsonl": _from_jsonl}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"{path} is not a prompt file{nearest(path.suffix.lower(), readers)}")
    rows = readers[path.suffix.lower()](text, path)
    lines = tuple(_line(row, path, number, index) for index, (number, row) in enumerate(rows))
    if not lines:
        raise ConfigError(f"the prompt file {path} holds no prompt")
    names = Counter(line.name for line in lines)
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise ConfigError(f"{path}: the name '{twice}' is used twice; names must differ")
    return lines


def _from_txt(text: str, _path: Path) -> list[tuple[int, dict[str, Any]]]:
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, {"prompt": line}) for number, line in lines if line and not line.startswith("#")]


def _from_csv(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), restkey="more", restval="")
    rows: list[tuple[int, dict[str, Any]]] = []
    for row in reader:
        if "more" in row:
            raise ConfigError(
                f"{path}:{reader.line_num}: more fields than the header has; quote prompts that hold commas"
            )
        rows.append((reader.line_num, {key: value for key, value in row.items() if value != ""}))
    return rows


def _from_jsonl(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = object_or_none(parse_json(line, strict=True))
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: not a JSON object: {error}") from None
        if row is None:
            raise ConfigError(f"{path}:{number}: not a JSON object")
        rows.append((number, row))
    return rows


def _line(row: Mapping[str, Any], path: Path, number: int, index: int) -> PromptLine:
    where = f"{path}:{number}"
    known = [field.name for field in fields(PromptLine)]
    for key in row:
        if key not in known:
            raise ConfigError(f"{where}: unknown field '{key}'{nearest(str(key), known)}")
    prompt = row.get("prompt", "")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(f"{where}: the prompt is empty")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(row.get("name") or f"{index + 1:03d}")).strip("-")[:40]
    try:
        seed = int(row["seed"]) if "seed" in row else None
        size = str(row.get("size", ""))
        if size:
            parse_size(size)
    except (ValueError, TypeError):
        raise ConfigError(f"{where}: seed = {row['seed']!r} is not a whole number") from None
    except SosieError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    return PromptLine(prompt.strip(), name or f"{index + 1:03d}", seed, size)
