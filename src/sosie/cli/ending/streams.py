"""stdout and stderr, closed, full, or of an encoding that has not every letter; and what is written to them."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from sosie.core.address import conceal
from sosie.core.printable import HARMFUL, printable

AS_TYPED = ("prompt", "negative", "caption")
"""Keys of lines of JSON whose texts are the user's own words, in which an address is one of them."""

OWN_PAGE = "address"
"""The key of the address of a page that Sosie serves: what stands behind its `#` is there to be handed on."""


class StdoutError(Exception):
    """stdout takes no more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        # Windows calls a pipe without a reader an invalid argument.
        self.is_closed_pipe = error.errno in (errno.EPIPE, errno.EINVAL)


class _Stream:
    """A text stream that passes everything on, but for errors."""

    def __init__(self, stream: TextIO | None, is_stdout: bool) -> None:
        self._stream = stream
        self._is_stdout = is_stdout

    def write(self, text: str) -> int:
        self._pass("write", text)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._pass("flush")

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _pass(self, name: str, *arguments: str) -> None:
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, "it is closed")
            getattr(self._stream, name)(*arguments)
        except OSError as error:
            if self._is_stdout:
                raise StdoutError(error) from None


@contextmanager
def guarded_streams() -> Generator[None]:
    """sys.stdout raises `StdoutError` alone, sys.stderr nothing, and neither an encoding error."""
    for number in range(3):
        with suppress(OSError):  # a file that is opened later must not become stdout
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)
    if cast("TextIO | None", sys.stdin) is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - until the process ends
    before = sys.stdout, sys.stderr
    for stream in cast("tuple[Any, Any]", before):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", (_Stream(before[0], True), _Stream(before[1], False)))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_error(message: str, hint: str = "") -> None:
    """`error: ...` and `hint: ...` on stderr."""
    lines = [f"error: {printable(conceal(message))}", *([f"hint: {printable(conceal(hint))}"] if hint else [])]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def json_line(value: dict[str, Any], indent: int | None = None) -> str:
    r"""The value as JSON: what is not printable as JSON writes it (`\u202e`), addresses without secrets."""
    encoding = (getattr(sys.stdout, "encoding", "") or "utf-8").lower()
    text = json.dumps(_concealed(value), ensure_ascii=not encoding.startswith("utf"), indent=indent)
    return re.sub(f"[{HARMFUL}]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _concealed(value: Any) -> Any:
    if isinstance(value, str):
        return conceal(value)
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {conceal(key): item if key in (*AS_TYPED, OWN_PAGE) else _concealed(item) for key, item in table.items()}
    if isinstance(value, list | tuple):
        return [_concealed(item) for item in cast("list[Any]", value)]
    return value
