"""JSON that others wrote, in a file or an answer, narrowed to what is expected.

Nothing in it is trusted: a value of another kind is an empty one or None, never an exception. `parse_json` and what
builds on it raise for text that is no JSON, too deep or too much; what JSON has no word for (`NaN`, `Infinity`, 1e999,
half a surrogate pair), which Python's parser takes, is None or a mark here, and an error where it is `strict`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

from sosie.core.errors import BadFileError, BadModelError
from sosie.files.json_bounds import ROOM, parse
from sosie.files.regular import MOST, read_bytes

LARGEST = 2**53
"""The largest whole number that every JSON program reads exactly."""


def parse_json(text: str | bytes, room: int = ROOM, strict: bool = False) -> Any:
    """The value of a JSON text. Raises `ValueError`, also for more than takes `room` bytes of memory.

    `strict` is for what a person wrote: a number that is none is told, not passed over.
    """
    return parse(text, room, strict)


def parse_object(text: str | bytes, most: int | None = None) -> dict[str, Any] | None:
    """The object of a JSON text; None for anything else, and for more than `most` letters or bytes."""
    try:
        return object_or_none(parse_json(text)) if most is None or len(text) <= most else None
    except ValueError:
        return None


def read_json(path: Path, most: int = MOST, strict: bool = False, what: str = "") -> Any:
    """The value in a JSON file. Raises `NotFoundError` where there is none, `BadFileError` for all else.

    `most` is its length in bytes; `what` says in errors what it is to be.
    """
    try:
        return parse_json(read_bytes(path, most, what), strict=strict)
    except ValueError as error:
        raise BadFileError(f"{f'{what} {path}'.lstrip()} is not valid JSON: {str(error)[:200]}") from None


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """The object in a model's JSON file. Raises `NotFoundError`, or `BadModelError` for anything else."""
    try:
        found = object_or_none(read_json(path))
    except BadFileError as error:
        raise BadModelError(error.message, hint) from None
    if found is None:
        raise BadModelError(f"{path} is not a JSON object", hint)
    return found


def object_or_none(value: object) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def list_or_none(value: object) -> list[Any] | None:
    """A JSON list; None for anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def as_object(value: object) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    return object_or_none(value) or {}


def as_list(value: object) -> list[Any]:
    """A JSON list, or an empty one."""
    return list_or_none(value) or []


def as_objects(value: object) -> list[dict[str, Any]]:
    """The objects of a JSON list; anything else is left out."""
    return [found for entry in as_list(value) if (found := object_or_none(entry)) is not None]


def as_text(value: object) -> str:
    """A text as it is, or an empty one."""
    return value if isinstance(value, str) else ""


def as_line(value: object, most: int = 300) -> str:
    """A text to be shown: one line of printable letters, at most `most`; empty for what is no text or number."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return ""
    words = " ".join(str(value)[: 8 * most].split())
    return "".join(letter for letter in words if letter.isprintable())[:most]


def as_id(value: object) -> str:
    """An id, written as a text or a whole number; else empty."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def as_number(value: object) -> int | float | None:
    """A finite number, or None. A whole number stays whole: the largest seed has no float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def as_count(value: object) -> int:
    """A whole number from 0 to 2^53, or 0."""
    number = as_number(value)
    return int(number) if number is not None and 0 <= number <= LARGEST else 0
