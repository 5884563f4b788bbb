"""Texts that people wrote, in whatever encoding their programs saved them: read if it is certain which one that is."""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""Byte order marks; UTF-32's before UTF-16's, which begin alike."""

WINDOWS = "Windows-1252"
MOST_HIGH = 0.3
"""Of the letters of a Western text, at most this part is beyond ASCII: `déjà vu` has two of six."""

_OPENING = "\u2018\u201a\u201c\u201e\u2039\xab"
_CLOSING = "\u2019\u201d\u203a\xbb"
_SIGNS = "\u2013\u2014\u2026\u2022\u20ac\xa3\xa7\xa9\xae\u2122\xb0\xb7\xa0\xb1\xd7\xbd\xbc"
_RAISED = "\xb2\xb3"
_BETWEEN_LETTERS = "\u2019\u2013\u2014\u2026\xb7\xd7"
"""Of quotes and signs, those that may stand between two letters."""

_RARE = "\xd0\xf0\xde\xfe\xdd\xfd\xff\u0178"
"""Letters of Iceland, where Turkish and Macintosh texts have letters and dashes that are usual."""

_ALONE = "\xe0\xc0\xe9\xc9\xe8\xc8"
"""The letters beyond ASCII that are words (`à`, `é`, `è`)."""

WAY_OUT = "save it again as UTF-8 (in the editor: Save As, encoding UTF-8)"


@dataclass(frozen=True)
class Decoded:
    """A text and the encoding that it was read in: UTF-8, UTF-16, UTF-32 or Windows-1252."""

    text: str
    encoding: str = "UTF-8"


def decode(content: bytes) -> Decoded:
    """The text of a file's bytes, without a byte order mark.

    Raises `ValueError`, whose text says why, for what is no text or in an encoding that is not certain: of those
    without a mark UTF-8 is, UTF-16 with Latin letters, and Windows-1252 where each letter beyond ASCII stands as
    it would in a Western language. Macintosh, DOS, Cyrillic, Chinese and other encodings fail that.
    """
    for mark, codec, name in _MARKS:
        if content.startswith(mark):
            return Decoded(_strict(content, codec, f"its byte order mark says {name}, and it is none"), name)
    if b"\0" in content:
        return Decoded(_without_mark(content), "UTF-16")
    try:
        return Decoded(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        text = _western(content)
        if text is not None:
            return Decoded(text, WINDOWS)
        line = content.count(b"\n", 0, error.start) + 1
        why = f"is not UTF-8 (byte {content[error.start]:#04x} in line {line}), and which encoding it is is not certain"
        raise ValueError(why) from None


def _strict(content: bytes, codec: str, why: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        raise ValueError(why) from None


def _without_mark(content: bytes) -> str:
    """UTF-16 of Latin letters: every second byte is mostly 0."""
    half = len(content) // 2
    for codec, zeros in (("utf-16-le", content[1::2]), ("utf-16-be", content[0::2])):
        if len(content) % 2 == 0 and zeros.count(0) > 0.6 * half and content.count(0) == zeros.count(0):
            text = _strict(content, codec, "has zeros among its bytes: it is no text")
            if all(letter.isprintable() or letter in "\t\r\n" for letter in text):
                return text
    raise ValueError("has zeros among its bytes: it is no text")


def _western(content: bytes) -> str | None:
    """The text as Windows-1252, if every letter of it stands where that makes sense."""
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return None
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        return None
    letters = [letter for letter in text if letter.isalpha()]
    high = sum(letter > "\x7f" for letter in letters)
    if high > max(2, MOST_HIGH * len(letters)):
        return None
    alone = re.findall(r"(?<![^\W\d_])[^\W\d_\x00-\x7f]+(?![^\W\d_])", text)
    if any(word not in _ALONE for word in alone) or (high and len(alone) == high):
        return None
    places = (match.start() for match in re.finditer(r"[^\x00-\x7f]", text))
    return text if all(_fits(text, place) for place in places) else None


def _fits(text: str, place: int) -> bool:
    """Whether the letter beyond ASCII at a place stands as it would in a Western text."""
    letter = text[place]
    before = text[place - 1] if place else " "
    after = text[place + 1] if place + 1 < len(text) else " "
    if letter.isalpha() and letter not in _RARE and unicodedata.category(letter) in ("Ll", "Lu"):
        return letter.islower() or not before.isalpha() or before.isupper()  # `ŽENA` and `École`, never `cafŽ`
    if letter in _OPENING:
        return not before.isalpha() and not after.isspace()
    if letter in "\xa1\xbf":
        return not before.isalpha() and after.isascii() and after.isalpha()
    if letter in _RAISED:
        return before.isalnum() and not after.isalpha()
    inside = before.isalpha() and after.isalpha()
    return letter in _CLOSING + _SIGNS and (not inside or letter in _BETWEEN_LETTERS)
