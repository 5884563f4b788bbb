"""Tables of captions, in the forms in which people and trainers have them: a record a picture.

metadata.csv, .tsv          a header with file_name, text...; `,`, `;`, tab or `|`; or a file and a caption a line
metadata.jsonl              an object a line
*.json                      a list of objects; {file: caption}; {"data": [...]}; COCO; conversations
captions.txt                a file name and its caption a line
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sosie.core.errors import SosieError
from sosie.dataset.given.layout import MOST_REPEATS
from sosie.dataset.given.words import FILE_KEYS, MAX_CAPTION, Words, file_of, of_record, of_text, of_value
from sosie.files.encodings import Decoded, decode
from sosie.files.foreign import as_count, as_objects, as_text, list_or_none, object_or_none, parse_json, parse_object
from sosie.files.picture_kinds import is_named_as_picture
from sosie.files.regular import read_bytes

MAX_TABLE = 16_000_000
"""Bytes of the longest table that is read."""

SPREADSHEETS = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
READ = (*SPREADSHEETS, *LINES, ".json", ".txt")
NOT_READ = (".parquet", ".arrow", ".xlsx", ".xls", ".ods", ".feather")
"""Tables that are named with the way out."""

COMMON = (
    "captions",
    "metadata",
    "dataset",
    "data",
    "train",
    "annotations",
    "labels",
    "prompts",
    "meta_cap",
    "meta_lat",
)
"""How tables of captions are called; the first wins."""

_LISTS = ("data", "rows", "items", "images", "samples", "entries", "records", "examples", "dataset", "train")
_SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Record:
    """What a table says of one picture: its name there, its captions (None: none), all its fields, its repeats."""

    file: str
    words: Words | None
    fields: tuple[str, ...] = ()
    repeats: int = 1


@dataclass(frozen=True)
class Table:
    """A table that was read: its file, its records, the lines that are none, and the encoding that it was read in."""

    path: Path
    records: tuple[Record, ...] = ()
    wrong: tuple[int, ...] = field(default=())
    encoding: str = "UTF-8"


def is_table(path: Path) -> bool:
    """Whether the name ends as that of a table that is read, or of one that is not."""
    return path.suffix.lower() in (*READ, *NOT_READ)


def is_common(path: Path) -> bool:
    """Whether the name is one that tables of captions have."""
    return path.stem.lower() in COMMON


def rank(path: Path) -> tuple[int, str]:
    """Of two tables the one with the smaller rank counts."""
    stem = path.stem.lower()
    return (COMMON.index(stem) if stem in COMMON else len(COMMON)), path.name


def read_table(path: Path) -> Table:
    """Reads a table. Raises `ValueError`, whose text says why it cannot be read."""
    try:
        content = read_bytes(path, MAX_TABLE)
    except SosieError as error:
        raise ValueError(error.message.removeprefix(str(path)).strip()) from None
    text = decode(content)
    suffix = path.suffix.lower()
    if suffix in SPREADSHEETS:
        return Table(path, tuple(_from_csv(text.text)), (), text.encoding)
    if suffix == ".txt":
        return Table(path, tuple(_from_pairs(text.text)), (), text.encoding)
    return _from_lines(path, text) if suffix in LINES else _from_json(path, text)


def _from_lines(path: Path, text: Decoded) -> Table:
    records: list[Record] = []
    wrong: list[int] = []
    for number, line in enumerate(text.text.split("\n"), 1):
        if not line.strip():
            continue
        value = parse_object(line, MAX_CAPTION)
        if value is None:
            wrong.append(number)
        else:
            records.append(_record(value))
    return Table(path, tuple(records), tuple(wrong), text.encoding)


def _from_json(path: Path, text: Decoded) -> Table:
    try:
        value = parse_json(text.text)
    except ValueError as error:
        raise ValueError(f"is not JSON ({str(error)[:100]})") from None
    return Table(path, tuple(_of_json(value)), (), text.encoding)


def _of_json(value: Any) -> Iterator[Record]:
    items, table = list_or_none(value), object_or_none(value)
    if items is not None:
        for item in items:
            pair = list_or_none(item)
            if pair is not None and len(pair) == 2 and isinstance(pair[0], str):
                yield Record(pair[0], of_value(pair[1]))
            elif (record := object_or_none(item)) is not None:
                yield _record(record)
    elif table is not None and table.get("annotations") and table.get("images"):
        yield from _of_coco(table)
    elif table is not None and (inner := next((table[k] for k in _LISTS if list_or_none(table.get(k))), None)):
        yield from _of_json(inner)
    elif table is not None:
        for name, about in table.items():
            record = object_or_none(about)
            words = of_record(record) if record is not None else of_value(about)
            yield Record(str(name), words, tuple(record or ()))


def _of_coco(table: Mapping[str, Any]) -> Iterator[Record]:
    names = {str(image.get("id")): as_text(image.get("file_name")) for image in as_objects(table["images"])}
    for about in as_objects(table["annotations"]):
        if name := names.get(str(about.get("image_id"))):
            yield Record(name, of_record(about), tuple(about))


def _record(value: Mapping[str, Any]) -> Record:
    repeats = next((value[name] for name in ("repeats", "num_repeats") if name in value), 1)
    count = int(repeats) if isinstance(repeats, str) and repeats.strip().isdecimal() else as_count(repeats)
    return Record(file_of(value) or "", of_record(value), tuple(value), min(max(count, 1), MOST_REPEATS))


def _from_csv(text: str) -> Iterator[Record]:
    first, _, rest = text.partition("\n")
    said = first.strip().lower()
    if said.startswith("sep=") and len(said) == 5:
        separator, text = said[4], rest
    else:
        separator = _separator(first)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        filled = [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(f"is not CSV ({error})") from None
    if not filled:
        return
    header = [cell.strip() for cell in filled[0]]
    if not _is_header(header):
        yield from (Record(row[0].strip(), of_text(separator.join(row[1:]))) for row in filled)
        return
    for row in filled[1:]:
        cells = dict(zip(header, row, strict=False))
        if len(row) > len(header) and header:  # a caption with commas and without quotes
            cells[header[-1]] = separator.join(row[len(header) - 1 :])
        yield _record(cells)


def _separator(first: str) -> str:
    """The one that parts the first line into a header with a file, or a file and the rest; else the most frequent."""
    for separator in _SEPARATORS:
        cells = [cell.strip().strip('"') for cell in first.split(separator)]
        if len(cells) > 1 and (_is_header(cells) or is_named_as_picture(Path(cells[0]))):
            return separator
    return max(_SEPARATORS, key=first.count)


def _is_header(cells: Sequence[str]) -> bool:
    return any(cell.lower().replace(" ", "_") in FILE_KEYS for cell in cells)


def _from_pairs(text: str) -> Iterator[Record]:
    """Lines such as `00.jpg: a caption`, `00.jpg|a caption` or, after a header, `00.jpg,a caption`."""
    for line in text.split("\n"):
        for separator in ("\t", "|", ",", ";", ":"):
            name, found, rest = line.strip().partition(separator)
            name = name.strip().strip('"')
            if found and rest.strip() and is_named_as_picture(Path(name.partition("#")[0])):
                yield Record(name.partition("#")[0], of_text(rest.strip().strip('"')))
                break
