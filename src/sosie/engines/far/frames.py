"""Messages over a line: a JSON object in one line, then as many raw bytes as it says. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sosie.engines.resident_protocol import MAX_PIXELS, MAX_TEXT
from sosie.files.foreign import object_or_none, parse_json

MAX_DATA = 3 * MAX_PIXELS
PIECE = 1 << 20

Frame = tuple[dict[str, Any], bytes]


def packed(table: Mapping[str, Any], data: bytes = b"") -> bytes:
    """A message as it goes over the line."""
    return json.dumps({**table, "bytes": len(data)}, separators=(",", ":")).encode() + b"\n" + data


class Frames:
    """The messages that `read(most)` brings, which gives what comes next, and nothing at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._rest = bytearray()

    def next(self) -> Frame | None:
        """The next message, None at the end. Raises `OSError` for what is no message, or breaks off within one."""
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > MAX_TEXT:
                raise OSError("a message is too long")
            if not (piece := self._read(PIECE)):
                if self._rest:
                    raise OSError("a message broke off")
                return None
            self._rest += piece
        head = bytes(self._rest[:end])
        del self._rest[: end + 1]
        try:
            table = object_or_none(parse_json(head))
        except ValueError as error:
            raise OSError(f"a message is not JSON: {error}") from None
        size = table.get("bytes") if table is not None else None
        if table is None or not isinstance(size, int) or not 0 <= size <= MAX_DATA:
            raise OSError("a message is not one of Sosie's")
        while len(self._rest) < size:
            if not (piece := self._read(PIECE)):
                raise OSError("a message broke off")
            self._rest += piece
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return table, data
