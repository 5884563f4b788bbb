"""Prompt files: one prompt a line, as text, a table of a spreadsheet, or JSON."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from sosie.core.errors import BadFileError, ConfigError, SosieError, nearest
from sosie.core.finding import Finding, Rule
from sosie.files.encodings import WINDOWS, decode
from sosie.files.foreign import object_or_none, parse_json
from sosie.files.regular import read_bytes
from sosie.workspace.prompts.line import PromptLine, number, parse_size, whole_number
from sosie.workspace.prompts.settings import NAMES, ends_infotext, is_negative
from sosie.workspace.prompts.table import Row, read_table

A009 = Rule("SOS-A009", "warning", "A prompt file is not in UTF-8")

COLUMNS = {**NAMES, "name": "name", "file_name": "name", "filename": "name"}
"""How tables and JSON call the fields of a line, to their names here."""

LONGEST_NAME = 40
"""Letters of a name; what is longer ends with a number that tells it from others."""

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class PromptFile:
    """The lines of a prompt file, and what there is to say of how it was read."""

    lines: tuple[PromptLine, ...]
    findings: tuple[Finding, ...] = ()


def read_prompts(path: Path) -> tuple[PromptLine, ...]:
    """As `read_prompt_file`, without what there is to say."""
    return read_prompt_file(path).lines


def read_prompt_file(path: Path) -> PromptFile:
    """A `.txt` (a prompt a line, or infotexts; `#` starts a comment), a table (`.csv`, `.tsv`) or JSON (`.jsonl`).

    Names are unique: a line without one gets its number. Raises `ConfigError` naming the line.
    """
    readers: dict[str, Callable[[str, Path], Sequence[Row]]] = {
        ".txt": _from_text,
        ".csv": read_table,
        ".tsv": read_table,
        ".jsonl": _from_jsonl,
        ".ndjson": _from_jsonl,
        ".json": _from_json,
    }
    content = read_bytes(path, what="the prompt file")
    kind = path.suffix.lower()
    if kind not in readers:
        raise ConfigError(f"{path} is not a prompt file{nearest(kind, readers)}", "expected .txt, .csv, .tsv or .jsonl")
    try:
        decoded = decode(content)
    except ValueError as error:
        raise BadFileError(f"the prompt file {path} is not UTF-8 text: it {error}", "save it as UTF-8 text") from None
    rows = readers[kind](decoded.text, path)
    lines = tuple(_line(row, path, place) for place, row in enumerate(rows, 1))
    if not lines:
        raise ConfigError(f"the prompt file {path} holds no prompt")
    if twice := next((name for name, count in Counter(_names(rows)).items() if count > 1), None):
        raise ConfigError(f"{path}: the name '{twice}' is used twice; names must differ")
    return PromptFile(_apart(lines), tuple(_encoding(path, decoded.encoding)))


def _encoding(path: Path, encoding: str) -> Iterator[Finding]:
    if encoding == WINDOWS:
        message = f"{path} was read as {encoding}: it is not UTF-8, and fits no other encoding"
        yield A009.at(str(path), message, "save it as UTF-8 text if letters are wrong")


def _from_text(text: str, _path: Path) -> list[Row]:
    """A prompt a line; the lines of an infotext, with its negative prompt and settings, are one."""
    rows: list[Row] = []
    for block in _blocks(text):
        lines = [line for _, line in block]
        if ends_infotext(lines[-1]) and sum(map(is_negative, lines)) <= 1:
            rows.append(Row(block[0][0], {"prompt": "\n".join(lines)}))
            continue
        found: list[tuple[int, list[str]]] = []
        for place, line in block:
            if found and (is_negative(line) or ends_infotext(line)):
                found[-1][1].append(line)
            else:
                found.append((place, [line]))
        rows += [Row(place, {"prompt": "\n".join(parts)}) for place, parts in found]
    return rows


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Lines with their numbers that stand together: between empty lines and comments, up to an infotext's last line."""
    block: list[tuple[int, str]] = []
    for place, line in enumerate((line.strip() for line in _LINE_END.split(text)), 1):
        empty = not line or line.startswith("#")
        if not empty:
            block.append((place, line))
        if block and (empty or ends_infotext(line)):
            yield block
            block = []
    if block:
        yield block


def _from_jsonl(text: str, path: Path) -> list[Row]:
    rows: list[Row] = []
    for place, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line, strict=True)
        except ValueError as error:
            raise ConfigError(f"{path}:{place}: not a JSON object: {error}") from None
        rows.append(Row(place, _fields(value, f"{path}:{place}")))
    return rows


def _from_json(text: str, path: Path) -> list[Row]:
    try:
        value = parse_json(text, strict=True)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}", "a JSON object a line is a .jsonl file") from None
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [Row(place, _fields(item, f"{path}: entry {place}")) for place, item in enumerate(items, 1)]


def _fields(value: object, where: str) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {"prompt": value}
    row = object_or_none(value)
    if row is None:
        raise ConfigError(f"{where}: not a JSON object", 'expected {"prompt": "...", "seed": 1}')
    return {key: item for key, item in row.items() if item is not None}


def _line(row: Row, path: Path, place: int) -> PromptLine:
    where = f"{path}:{row.line}"
    values: dict[str, Any] = {}
    for key, value in row.fields.items():
        own = COLUMNS.get(re.sub(r"[\s\-]+", "_", str(key).strip().lower()))
        if own is None:
            raise ConfigError(f"{where}: unknown field '{key}'{nearest(str(key), dict.fromkeys(COLUMNS.values()))}")
        if own in values:
            raise ConfigError(f"{where}: field '{own}' is there twice, once as '{key}'")
        values[own] = value
    prompt = values.get("prompt", "")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError(f"{where}: the prompt is empty")
    return PromptLine(
        prompt.strip(),
        _file_name(str(values.get("name") or ""), place),
        _as(whole_number, values, "seed", "a whole number", where),
        _size(values, where),
        _text(values, "negative_prompt", where),
        _as(whole_number, values, "steps", "a whole number", where),
        _as(number, values, "cfg", "a number", where),
        _text(values, "sampler", where) or "",
        _text(values, "schedule", where) or "",
        where,
    )


def _as(read: Callable[[object], Any], values: Mapping[str, Any], name: str, what: str, where: str) -> Any:
    try:
        return read(values.get(name))
    except (ValueError, OverflowError):
        raise ConfigError(f"{where}: {name} = {values[name]!r} is not {what}") from None


def _text(values: Mapping[str, Any], name: str, where: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}: {name} = {value!r} is not a text")
    return value


def _size(values: Mapping[str, Any], where: str) -> str:
    sides = [_as(whole_number, values, side, "a whole number", where) for side in ("width", "height")]
    size = str(values.get("size") or "")
    if size and sides != [None, None]:
        raise ConfigError(f"{where}: it has a size, and width or height; expected one of the two")
    if (sides[0] is None) != (sides[1] is None):
        raise ConfigError(f"{where}: it has one side of a size; expected width and height")
    if sides[0] is not None:
        size = f"{sides[0]}x{sides[1]}"
    try:
        return "x".join(map(str, parse_size(size))) if size else ""
    except SosieError as error:
        raise ConfigError(f"{where}: {error.message}") from None


def _names(rows: Sequence[Row]) -> Iterator[str]:
    return (str(row.fields["name"]) for row in rows if row.fields.get("name"))


def _file_name(name: str, place: int) -> str:
    """The name as a part of files' names: letters and digits of any script, `-` for all else; a number for none."""
    kept = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", name)).strip("-")
    return kept or f"{place:03d}"


def _apart(lines: tuple[PromptLine, ...]) -> tuple[PromptLine, ...]:
    """Lines whose names are not too long, and differ where they did before they became parts of files' names."""
    taken: set[str] = set()
    following: Counter[str] = Counter()
    done: list[PromptLine] = []
    for line in lines:
        short = name = line.name[:LONGEST_NAME].rstrip("-")
        while name in taken:
            following[short] += 1
            name = f"{short}-{following[short] + 1}"
        taken.add(name)
        done.append(replace(line, name=name))
    return tuple(done)
