"""What a JSON text will cost, counted before it is parsed; and numbers and letters that JSON has no word for.

Python's parser takes some 24 times a text's length for `{},{},...`, goes a thousand levels deep, and reads `NaN`,
numbers of thousands of digits and halves of surrogate pairs, on which what comes later fails.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import Any, cast

DEEPEST = 100
"""Levels of lists and objects in each other; the deepest known (ComfyUI's nested subgraphs) have about 20."""

ROOM = 192 * 2**20
"""Bytes that a text may become; ComfyUI's list of nodes with 3,000 of them takes 30 MiB."""

MOST_DIGITS = 40
"""Of a whole number; the largest seed has 20."""

OBJECT, LIST, MEMBER, ITEM = 240, 88, 110, 64
"""Bytes that CPython takes, at most, for an object, a list, a key with its place, a number or text with its place."""

_SUSPECT_NUMBER = re.compile(rb"\d{%d}|[eE]\+?\d{3}" % (MOST_DIGITS + 1))
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_STRUCTURE = b'"{}[],:'
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}


def check_cost(raw: bytes, room: int) -> None:
    """Raises `ValueError` for a text that is nested too deep, or that parsed would take more than `room` bytes."""
    depth = raw.count(b"{") + raw.count(b"[")
    if depth <= DEEPEST and len(raw) * 16 <= room:
        return
    # Escaped quotes, then all that is no structure, then what stands in quotes: what is left is counted exactly.
    quoted = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    found = re.sub(rb'"[^"]*"', b"", quoted)
    counts = [found.count(sign) for sign in (b"{", b"[", b":", b",")]
    cost = sum(count * each for count, each in zip(counts, (OBJECT, LIST, MEMBER, ITEM), strict=True))
    if cost + 3 * len(raw) > room:
        raise ValueError(f"it has {sum(counts):,} values, which would take {cost / 2**20:,.0f} MiB of memory")
    if depth > DEEPEST:
        brackets = found.translate(None, b'",:')
        deepest = max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0)
        if deepest > DEEPEST:
            raise ValueError(f"it is nested {deepest:,} deep; expected at most {DEEPEST}")


def parse(text: str | bytes, room: int, strict: bool, **hooks: Any) -> Any:
    """The value of a JSON text, `hooks` as those of `json.loads`. Raises `ValueError` alone.

    `strict`: a number that JSON cannot say (`NaN`, 1e999) and half a surrogate pair are errors. Otherwise such a
    number is None, and such a letter U+FFFD.
    """
    if isinstance(text, str):
        raw = text.encode("utf-8", "surrogatepass")
    else:
        text = text.decode(json.detect_encoding(text))
        raw = text.encode()
    check_cost(raw, room)

    def unsaid(word: str) -> None:
        if strict:
            raise ValueError(f"{word[:20]} is not a number that JSON can say")

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise ValueError(f"it has a number of {len(digits):,} digits; expected at most {MOST_DIGITS}")
        return int(digits)

    def real(digits: str) -> float | None:
        found = float(digits)
        return found if math.isfinite(found) else unsaid(digits)

    if _SUSPECT_NUMBER.search(raw):
        hooks |= {"parse_int": whole, "parse_float": real}
    try:
        value = json.loads(text, parse_constant=unsaid, **hooks)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return value if not _HALF_PAIR.search(raw) else _whole_letters(value, strict)


def _whole_letters(value: Any, strict: bool) -> Any:
    """The value with no half of a surrogate pair in its texts and keys."""
    if isinstance(value, str):
        mended = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if strict and mended != value:
            raise ValueError("it has half a surrogate pair (\\ud800 to \\udfff alone) in a text")
        return mended
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {_whole_letters(key, strict): _whole_letters(item, strict) for key, item in table.items()}
    if isinstance(value, list):
        return [_whole_letters(item, strict) for item in cast("list[Any]", value)]
    return value
