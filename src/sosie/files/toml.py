"""TOML files of people: the text is bounded before it is parsed, and its values are such as Sosie can use.

Python's parser falls over a thousand levels, takes minutes for a key of many parts, and reads whole numbers of any
length, `nan`, 1e999 and NUL, on which what comes later fails.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from sosie.core.errors import BadFileError
from sosie.core.schema import from_table
from sosie.files.regular import read_text

T = TypeVar("T")

MOST = 1_000_000
"""Bytes of the longest file that is read; the longest recipe has 12 kB."""

DEEPEST = 32
"""Levels of lists and tables in each other, and parts of a key."""

LARGEST = 2**64
"""Whole numbers are smaller, as the largest seed is."""

_QUOTED = re.compile(
    r'"""(?:[^\\]|\\.)*?(?:"""|\Z)' r"|'''.*?(?:'''|\Z)" r'|"(?:[^"\\\n]|\\.)*+"?' r"|'[^'\n]*+'?" r"|#[^\n]*+",
    re.DOTALL,
)
"""Texts and comments, also such as do not end: so each letter is looked at once."""

_BETWEEN = re.compile(r"[\n,=\[\]{}]")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


def load_toml(cls: type[T], path: Path) -> T:
    """Reads `path` strictly as `cls`; every complaint names the file."""
    return from_table(cls, read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The parsed table of a TOML file.

    Raises `NotFoundError` where there is none, `BadFileError` that names the place for all else.
    """
    return parse_toml(read_text(path, MOST), str(path))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The table of a TOML text; `where` names it in errors, which are `BadFileError`."""
    try:
        _check_depth(text)
        table = tomllib.loads(text)
        for key, value in table.items():
            _check_value(value, key)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{where} is not valid TOML: {str(error)[:300]}") from None
    return table


def quoted(value: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's, except for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def value_text(value: str | float | Iterable[str | float]) -> str:
    """A text, a number, a truth value or a list of such, as TOML writes it. A number must be finite."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            return repr(value)
        case _:
            return f"[{', '.join(value_text(one) for one in value)}]"


def _check_depth(text: str) -> None:
    """Raises `ValueError` for brackets too deep in each other, and for a key of too many parts."""
    bare = _QUOTED.sub('"', text)
    depth = max(itertools.accumulate(_STEPS.get(sign, 0) for sign in re.findall(r"[\[\]{}]", bare)), default=0)
    parts = max(part.count(".") for part in _BETWEEN.split(bare))
    if max(depth, parts) > DEEPEST:
        raise ValueError(f"it is nested {max(depth, parts):,} deep; expected at most {DEEPEST}")


def _check_value(value: object, at: str) -> None:
    """Raises `ValueError` for what TOML can say and no field of Sosie can hold."""
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            _check_value(item, f"{at}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            _check_value(item, f"{at}[{index}]")
    elif isinstance(value, str) and "\0" in value:
        raise ValueError(f"{at[:200]} holds a NUL")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{at[:200]} = {value} is not a number that Sosie can use")
    elif isinstance(value, int) and abs(value) >= LARGEST:
        raise ValueError(f"{at[:200]} is a whole number of more than 64 bits")
