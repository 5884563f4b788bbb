"""Names of files in messages."""

from __future__ import annotations

from collections.abc import Sequence

from sosie.core.printable import printable as written

KINDS = "expected PNG, JPEG, WebP, BMP, TIFF, AVIF or HEIC images"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, printable and cut, then how many more there are."""
    shown = ", ".join(printable(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def printable(name: str) -> str:
    """A name from anywhere without control characters, at most 80 characters."""
    return written(shown(name[:80]))


def shown(name: str) -> str:
    """A file's name as text can hold it: each byte that is no UTF-8 as its number, after a backslash and x."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, which Windows has in names
        return name.encode("utf-8", "replace").decode()
