"""Text of strangers on a terminal."""

from __future__ import annotations

import pytest

from sosie.core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("one\ntwo\r\n", r"one\ntwo\r\n"),
        ("\x9b31m\x7f\0", r"\x9b31m\x7f\x00"),
        ("a\u202egnp.exe\u2066\u200f\u061c", r"a\u202egnp.exe\u2066\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("name\udcff", r"name\udcff"),
    ],
)
def test_what_is_harmful_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Größe, naïve, ½ × 3",  # noqa: RUF001
        "日本語\u3000テスト",
        "עברית ועוד",
        "العربية",
        "हिन्दी",
        "می\u200cخواهم",  # noqa: RUF001
        "👩\u200d🚀 🏴\U000e0067\U000e0062\U000e007f ❤\ufe0f",
        "a\u00a0b",
        "tab\there",
        "✓ ≥ 0.5 ✗",
        "\U0001fae8",
    ],
)
def test_all_other_unicode_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_lines_stay_where_a_text_of_several_is_meant() -> None:
    assert printable("one\ntwo\x1b\n", lines=True) == "one\ntwo\\x1b\n"
