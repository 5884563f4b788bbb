"""Texts in other encodings than UTF-8: read where it is certain which, else refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosie.files.encodings import decode

WESTERN = [
    "caf\u00e9 terrace",
    "mira\u2019s portrait, neutral expression, caf\u00e9",
    "\u201cplain\u201d grey \u2013 studio",
    "Stra\u00dfe, Gr\u00fc\u00dfe aus M\u00fcnchen",
    "ni\u00f1o, \u00bfqu\u00e9?",
    "l\u2019\u00e9t\u00e9 \u00e0 la plage\u2026",
    "25 \u00b0C, 5 \u20ac, 3 m\u00b2",
    "\u00c9cole, \u00c5ngstr\u00f6m, sm\u00f8rrebr\u00f8d, f\u0153tus",
    "cr\u00e8me br\u00fbl\u00e9e",
]

OTHERS = [
    ("\u0434\u0435\u0432\u0443\u0448\u043a\u0430 \u0443\u043b\u044b\u0431\u0430\u0435\u0442\u0441\u044f", "cp1251"),
    ("a girl in \u0438", "cp1251"),
    ("\u7f8e\u73b2\u5728\u7b11", "gbk"),
    ("a photo of \u7f8e smiling in the park", "big5"),
    ("smile \u7b11", "shift_jis"),
    ("\uc5ec\uc790", "cp949"),
    ("caf\u00e9 terrace", "mac_roman"),
    ("caf\u00e9 terrace", "cp437"),
    ("mira\u2019s \u201cplain\u201d coat", "mac_roman"),
    ("mira \u2013 smile", "mac_roman"),
    ("\u0142\u00f3dka, dziewczyna si\u0119 \u015bmieje", "cp1250"),
    ("kad\u0131n g\u00fcl\u00fcyor, \u0130stanbul", "cp1254"),
    ("\u03b3\u03c5\u03bd\u03b1\u03af\u03ba\u03b1", "cp1253"),
]


@pytest.mark.parametrize("text", WESTERN)
def test_western_text_of_windows_is_read(text: str) -> None:
    found = decode(text.encode("cp1252"))
    assert (found.text, found.encoding) == (text, "Windows-1252")


@pytest.mark.parametrize(("text", "encoding"), OTHERS)
def test_what_could_be_another_encoding_is_not_guessed(text: str, encoding: str) -> None:
    with pytest.raises(ValueError, match="which encoding it is is not certain"):
        decode(text.encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_with_and_without_a_mark(encoding: str) -> None:
    text = "mira, caf\u00e9\r\nsmiling"
    assert decode(text.encode(encoding)).text == text


@pytest.mark.parametrize("content", [b"\0\1\2", b"mira\0", b"\xff\xfea", b"\x00\xd8a\0", b"caf\xe9\x07"])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no text|is none|not certain"):
        decode(content)


@given(st.text())
def test_utf_8_always_comes_back(text: str) -> None:
    found = decode(text.encode("utf-8", "replace")) if "\0" not in text else None
    assert found is None or found.text == text.encode("utf-8", "replace").decode().removeprefix("\ufeff")


@given(st.binary(max_size=80))
def test_bytes_are_a_text_or_one_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decode(content).text, str)
