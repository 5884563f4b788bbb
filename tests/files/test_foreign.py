"""JSON of others: nothing that it holds raises, and nothing of another kind gets through."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosie.core.errors import BadModelError
from sosie.files.foreign import (
    as_count,
    as_id,
    as_line,
    as_list,
    as_number,
    as_object,
    as_objects,
    as_text,
    parse_json,
    parse_object,
    read_object,
)

DEEP = "[" * 100_000
LONG = "1" * 10_000

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_every_value_is_narrowed_to_its_kind(value: Any) -> None:
    assert isinstance(as_object(value), dict)
    assert isinstance(as_list(value), list)
    assert all(isinstance(entry, dict) for entry in as_objects(value))
    assert isinstance(as_text(value), str)
    assert as_line(value).isprintable()
    assert isinstance(as_id(value), str)
    assert 0 <= as_count(value) <= 2**53
    number = as_number(value)
    assert number is None or (not isinstance(number, bool) and math.isfinite(number))


def test_right_values_are_given_as_they_are() -> None:
    assert as_object({"a": 1}) == {"a": 1}
    assert as_list([1]) == [1]
    assert as_objects([{"a": 1}, 2, {}]) == [{"a": 1}, {}]
    assert (as_text(" a\n"), as_line(" a\nb\x1b", 3), as_line(3)) == (" a\n", "a b", "3")
    assert (as_id(3), as_id("x"), as_id(value=True)) == ("3", "x", "")
    assert (as_number(2**64 - 1), as_number(0.5)) == (2**64 - 1, 0.5)
    assert (as_count(7), as_count(7.0), as_count(2**53 + 1), as_count(-1)) == (7, 7, 0, 0)


@pytest.mark.parametrize(
    "text",
    [DEEP, LONG, "[" * 101 + "]" * 101, "9" * 41, "[" + "{}," * 1_000_000 + "{}]", "{", "", b"\xff", b'"\xed\xa0\x80"'],
    ids=["deep", "long", "levels", "digits", "structure", "half", "empty", "bytes", "surrogate"],
)
def test_what_is_no_json_is_one_exception(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    assert parse_object(text) is None
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadModelError, match=r"a\.json is not valid JSON: "):
        read_object(path)


def test_an_object_is_read_and_nothing_else(tmp_path: Path) -> None:
    assert parse_object('{"a": 1}') == {"a": 1}
    assert parse_object('{"a": 1}', most=3) is None
    assert parse_object("[1]") is None
    path = tmp_path / "a.json"
    path.write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(BadModelError, match="is not a JSON object"):
        read_object(path, "again")


def test_numbers_that_are_none_are_none() -> None:
    found = parse_object('{"a": NaN, "b": -Infinity, "c": 1e999, "d": true}')
    assert found is not None
    assert [as_number(value) for value in found.values()] == [None] * 4
    assert [as_count(value) for value in found.values()] == [0] * 4


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e999", "[1, 1e+0400]", "9" * 400 + ".0", r'{"a\ud800": 1}', r'"\udc00x"']
)
def test_what_json_cannot_say_is_told_where_a_person_wrote_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|surrogate"):
        parse_json(text, strict=True)


def test_what_json_cannot_say_is_nothing_where_a_program_wrote_it() -> None:
    assert parse_json(r'{"a": [NaN, 1e999, 1E2], "b\ud800": "\ud83d\ude00 \udc00"}') == {
        "a": [None, None, 100.0],
        "b\ufffd": "\U0001f600 \ufffd",
    }


def test_structure_in_texts_is_no_structure() -> None:
    text = '["' + r"\\\"[[{{" * 5_000 + '", ' + "[" * 98 + "]" * 98 + "]"
    assert parse_json(text)[0] == r"\"[[{{" * 5_000


@given(VALUES)
def test_all_that_json_can_say_is_read_as_it_is(value: Any) -> None:
    text = json.dumps(value)
    if "NaN" not in text and "Infinity" not in text and r"\ud" not in text:
        assert parse_json(text, strict=True) == parse_json(text) == value
