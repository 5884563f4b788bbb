"""What a JSON text will cost, counted before it is parsed; and numbers and letters that JSON has no word for.

Python's parser takes some 24 times a text's length for `{},{},...`, goes a thousand levels deep, and reads `NaN`,
numbers of thousands of digits and halves of surrogate pairs, on which what comes later fails.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from typing import Any, cast

DEEPEST = 100
"""Levels of lists and objects in each other; the deepest known (ComfyUI's nested subgraphs) have about 20."""

ROOM = 192 * 2**20
"""Bytes that a text may become; ComfyUI's list of nodes with 3,000 of them takes 30 MiB."""

MOST_DIGITS = 40
"""Of a whole number; the largest seed has 20."""

OBJECT, LIST, MEMBER, ITEM = 240, 88, 110, 64
"""Bytes that CPython takes, at most, for an object, a list, a key with its place, a number or text with its place."""

PIECE = 65_536
"""Bytes that are counted at a time."""

_SUSPECT_NUMBER = re.compile(rb"\d{%d}|[eE]\+?\d{3}" % (MOST_DIGITS + 1))
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_WIDEST, _WIDER = re.compile(rb"[\xf0-\xff]|\\u[dD][89abAB]"), re.compile(rb"[\xc4-\xef]|\\u")
"""Bytes of letters of which one makes Python use 4 or 2 bytes for each letter of a text."""

_STRUCTURE = b'"{}[],:'
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}


def check_cost(raw: bytes, room: int) -> None:
    """Raises `ValueError` for a text that is nested too deep, or takes more than `room` bytes in all its forms."""
    if raw.count(b"{") + raw.count(b"[") <= DEEPEST and len(raw) * 32 <= room:
        return
    width = 4 if _WIDEST.search(raw) else 2 if _WIDER.search(raw) else 1
    cost = len(raw) * (1 + 2 * width)  # the bytes, the text, and the texts in it
    depth = 0
    for found in _structure(raw):
        counts = [found.count(sign) for sign in (b"{", b"[", b":", b",")]
        cost += sum(count * each for count, each in zip(counts, (OBJECT, LIST, MEMBER, ITEM), strict=True))
        if cost > room:
            raise ValueError(f"its {len(raw):,} bytes have so many values that they would take over {room >> 20} MiB")
        levels = list(itertools.accumulate(map(_STEPS.__getitem__, found.translate(None, b",:")), initial=depth))
        if max(levels) > DEEPEST:
            raise ValueError(f"it is nested {max(levels):,} deep; expected at most {DEEPEST}")
        depth = levels[-1]


def _structure(raw: bytes) -> Iterator[bytes]:
    """The brackets, colons and commas of a JSON text that stand in no quotes, piece by piece."""
    start, quoted = 0, False
    while start < len(raw):
        end = start + PIECE
        while raw[end - 1 : end] == b"\\":  # what it escapes is in the same piece
            end += 1
        piece = raw[start:end].replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
        parts = piece.split(b'"')
        yield b"".join(parts[quoted::2])
        quoted ^= len(parts) % 2 == 0
        start = end


def parse(text: str | bytes, room: int, strict: bool, **hooks: Any) -> Any:
    """The value of a JSON text, `hooks` as those of `json.loads`. Raises `ValueError` alone.

    `strict`: a number that JSON cannot say (`NaN`, 1e999) and half a surrogate pair are errors. Otherwise such a
    number is None, and such a letter U+FFFD.
    """
    if isinstance(text, str):
        raw = text.encode("utf-8", "surrogatepass")
    else:
        encoding = json.detect_encoding(text)
        raw = text if encoding == "utf-8" else text.decode(encoding).encode()
    check_cost(raw, room)
    if isinstance(text, bytes):
        text = raw.decode()

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
