"""Text of strangers on a terminal: what would move the cursor, recolour, or turn the reading order is written out."""

from __future__ import annotations

import re

HARMFUL = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but for the tab and the line end
    "\u2028\u2029"  # line ends of other kinds
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the reading order
    "\u206a-\u206f\ufff9-\ufffb"  # formats that no program should use
    "\ud800-\udfff"  # bytes of names that are no UTF-8, and halves of pairs
)
"""As the inside of a set of a regular expression."""

_OF_LINES = re.compile(f"[{HARMFUL}]")
_OF_TEXT = re.compile(f"[{HARMFUL}\n]")


def printable(text: str, lines: bool = False) -> str:
    r"""The text with everything harmful as `\x1b`, `\u202e` and so on; all other Unicode stays as it is.

    Line ends are written out too, as a name that holds one would forge a line; with `lines` they stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return (_OF_LINES if lines else _OF_TEXT).sub(_written, text)


def _written(found: re.Match[str]) -> str:
    letter = found[0]
    return {"\n": "\\n", "\r": "\\r"}.get(letter) or (
        f"\\x{ord(letter):02x}" if ord(letter) < 0x100 else f"\\u{ord(letter):04x}"
    )
