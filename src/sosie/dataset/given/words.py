"""The captions in a text or in a value of JSON: one, or several that are alternatives to each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sosie.files.foreign import as_objects, as_text, list_or_none, object_or_none

MAX_CAPTION = 64_000
"""Letters of the longest caption."""

MOST = 64
"""Alternatives of one picture that are kept."""

CAPTION_KEYS = ("caption", "captions", "text", "texts", "prompt", "prompts", "description", "descriptions")
TAG_KEYS = ("tags", "tag_string", "keywords")
FILE_KEYS = (
    *("file_name", "filename", "file", "image", "image_path", "image_file", "image_name", "img", "img_path"),
    *("path", "filepath", "file_path", "name", "key"),
)

Words = tuple[str, ...]
"""Captions of one picture; none is empty, and an empty tuple is an empty caption."""


def of_text(text: str) -> Words:
    """The captions in a text: one a line. A line that ends in a comma goes on in the next."""
    whole = re.sub(r",[^\S\n]*\n+", ", ", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _once(whole.split("\n"))


def of_value(value: Any) -> Words | None:
    """The captions in a value of JSON: a text, a list of alternatives, or a table of them; None for anything else."""
    if isinstance(value, str):
        return of_text(value)
    items = list_or_none(value)
    if items is not None and all(isinstance(item, str) for item in items):
        return _once(line for item in items for line in of_text(as_text(item)))
    table = object_or_none(value)
    if table and all(isinstance(item, str) for item in table.values()):
        return _once(line for item in table.values() for line in of_text(as_text(item)))
    return None


def of_record(record: Mapping[str, Any]) -> Words | None:
    """The captions of a record: caption, what an assistant said of the picture, or tags; None if it has none."""
    fields = {str(key).strip().lower().replace(" ", "_"): value for key, value in record.items()}
    for key in CAPTION_KEYS:
        found = of_value(fields[key]) if fields.get(key) is not None else None
        if found is not None:
            more = of_value(fields.get("alternatives")) or ()
            return _once((*found, *more))
    said = [turn for turn in as_objects(fields.get("conversations")) if turn.get("from") in ("gpt", "assistant")]
    said += [turn for turn in as_objects(fields.get("messages")) if turn.get("role") == "assistant"]
    if said:
        return of_value(said[-1].get("value", said[-1].get("content")))
    for key in TAG_KEYS:
        tags = fields.get(key)
        table = object_or_none(tags)
        names = list(table) if table is not None else list_or_none(tags)
        if names is not None and all(isinstance(name, str) for name in names):
            return _once([", ".join(name.strip() for name in names)])
        if isinstance(tags, str):
            return _once([tags])
    return None


def file_of(record: Mapping[str, Any]) -> str | None:
    """The picture that a record is about, as it names it."""
    fields = {str(key).strip().lower().replace(" ", "_"): value for key, value in record.items()}
    return next((value for key in FILE_KEYS if isinstance(value := fields.get(key), str) and value.strip()), None)


def _once(lines: Iterable[str]) -> Words:
    texts = (re.sub(r"[ \t\r\n\f\v]+", " ", line).strip()[:MAX_CAPTION] for line in lines)
    return tuple(dict.fromkeys(text for text in texts if text))[:MOST]
