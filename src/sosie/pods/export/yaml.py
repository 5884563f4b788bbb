"""YAML written of plain values. Every text is quoted, or a block, so that none is taken for anything else.

Numbers of everyday size only: YAML reads some of JSON's small ones as texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

Value = Mapping[str, "Value"] | Sequence["Value"] | str | int | float | bool
BLOCK = re.compile(r"[!-~][ -~]*(\n|\n[!-~][ -~]*)+")
"""Several lines of plain characters, none of which begins with a space."""

PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u(d[89ab]..)\\u(d[c-f]..)")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


def dumped(value: Mapping[str, Value], comment: str = "") -> str:
    """The document of a mapping, after a comment."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + "\n".join(_mapping(value, 0)) + "\n"


def _mapping(value: Mapping[str, Value], depth: int) -> Iterator[str]:
    for key, one in value.items():
        name = key if PLAIN.fullmatch(key) else PAIR.sub(_whole, json.dumps(key))
        yield from _entry(f"{'  ' * depth}{name}:", one, depth + 1)


def _list(value: Sequence[Value], depth: int) -> Iterator[str]:
    for one in value:
        if isinstance(one, Mapping) and one:
            lines = list(_mapping(cast("Mapping[str, Value]", one), depth + 1))
            yield f"{'  ' * depth}- {lines[0].lstrip()}"
            yield from lines[1:]
        else:
            yield from _entry(f"{'  ' * depth}-", one, depth + 1)


def _entry(head: str, one: Value, depth: int) -> Iterator[str]:
    if isinstance(one, Mapping) and one:
        yield head
        yield from _mapping(cast("Mapping[str, Value]", one), depth)
    elif isinstance(one, str) and BLOCK.fullmatch(one):
        yield f"{head} |{'' if one.endswith(chr(10)) else '-'}"
        yield from (f"{'  ' * depth}{line}".rstrip() for line in one.removesuffix("\n").split("\n"))
    elif isinstance(one, Sequence) and not isinstance(one, str) and one:
        yield head
        yield from _list(cast("Sequence[Value]", one), depth)
    else:
        yield f"{head} {PAIR.sub(_whole, json.dumps(one))}"


def _whole(pair: re.Match[str]) -> str:
    """A character that JSON writes as two, which YAML does not put together."""
    high, low = int(pair[2], 16) - 0xD800, int(pair[3], 16) - 0xDC00
    return f"{pair[1]}\\U{0x10000 + (high << 10) + low:08x}"
