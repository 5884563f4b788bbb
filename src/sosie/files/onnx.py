"""What an ONNX file takes and gives, by the names and shapes in it; its weights are skipped, nothing in it is run.

An ONNX file is a protocol buffer (`onnx.proto3`): a model (field 7: the graph) whose graph has nodes (1), weights (5),
inputs (11) and outputs (12). Older files list their weights among the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from sosie.core.errors import BadModelError
from sosie.files.regular import open_regular

GRAPH, NODE, WEIGHT, INPUT, OUTPUT = 7, 1, 5, 11, 12
"""Numbers of the fields that are read: of a model, and of its graph."""

TYPES = {1: "float32", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64", 16: "bfloat16"}

MOST_FIELDS = 100_000
"""Most fields of one file that are looked at; the largest face models have about 2,000."""

MOST_TEXT = 1_000
"""Bytes of the longest name or type that is read."""


@dataclass(frozen=True)
class OnnxValue:
    """An input or output; a side that the model leaves open is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxHeader:
    """What a model takes and gives, without its weights."""

    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]


def read_onnx(path: Path) -> OnnxHeader:
    """Reads what the file at `path` takes and gives.

    Raises `BadModelError` for a file that is none, is cut off or has more than `MOST_FIELDS` fields, and `OSError`.
    """
    size = path.stat().st_size
    with open_regular(path) as stream:
        try:
            return _read(_Fields(stream, size))
        except (_BrokenError, UnicodeDecodeError) as error:
            message = f"{path} is no ONNX file, or a damaged one: {error}"
            raise BadModelError(message, "download it again") from None


class _BrokenError(ValueError):
    """What is in the file is no protocol buffer of a model."""


class _Fields:
    """The fields of a file, one after another; counts them, so that no file takes long."""

    def __init__(self, stream: BufferedReader, size: int) -> None:
        self._stream, self.size, self._left = stream, size, MOST_FIELDS

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each field between two places; of a number, its value and 0."""
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise _BrokenError(f"it has more than {MOST_FIELDS:,} fields")
            self._stream.seek(at)
            tag = self._number()
            number, kind = tag >> 3, tag & 7
            if kind == 0:
                value = self._number()
                at = self._stream.tell()
                yield number, value, 0
                continue
            length = self._number() if kind == 2 else {1: 8, 5: 4}.get(kind, -1)
            begins = self._stream.tell()
            at = begins + length
            if not number or length < 0 or at > end:
                raise _BrokenError(f"a field at byte {begins:,} does not end in it")
            yield number, begins, at

    def text(self, start: int, end: int) -> str:
        """The text between two places, as much of it as is read."""
        self._stream.seek(start)
        return self._stream.read(min(end - start, MOST_TEXT)).decode("utf-8", "replace")

    def _number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._stream.read(1)
            if not byte:
                break
            value |= (byte[0] & 127) << shift
            if byte[0] < 128:
                return value
        raise _BrokenError("a number does not end")


def _read(fields: _Fields) -> OnnxHeader:
    graphs = [(start, end) for number, start, end in fields.within(0, fields.size) if number == GRAPH and end]
    if len(graphs) != 1:
        raise _BrokenError(f"it has {len(graphs)} graphs")
    weights: set[str] = set()
    nodes = 0
    values: dict[int, list[OnnxValue]] = {INPUT: [], OUTPUT: []}
    for number, start, end in fields.within(*graphs[0]):
        if number == WEIGHT:
            weights.add(_name(fields, start, end, 8))
        elif number in values and end:
            values[number].append(_value(fields, start, end))
        nodes += number == NODE
    if not nodes or not values[OUTPUT]:
        raise _BrokenError("its graph computes nothing")
    return OnnxHeader(tuple(one for one in values[INPUT] if one.name not in weights), tuple(values[OUTPUT]))


def _name(fields: _Fields, start: int, end: int, field: int) -> str:
    return next((fields.text(a, b) for number, a, b in fields.within(start, end) if number == field and b), "")


def _value(fields: _Fields, start: int, end: int) -> OnnxValue:
    """A ValueInfoProto: its name (1), and of its type (2) the tensor's (1): element type (1) and shape (2)."""
    name, dtype, shape = "", 0, list[int | None]()
    for number, a, b in fields.within(start, end):
        if number == 1 and b:
            name = fields.text(a, b)
        for _, c, d in _only(fields, number == 2 and b, a, b, 1):
            for part, e, f in fields.within(c, d):
                dtype = e if part == 1 and not f else dtype
                shape += [_side(fields, g, h) for _, g, h in _only(fields, part == 2 and f, e, f, 1)]
    return OnnxValue(name, TYPES.get(dtype, f"type {dtype}"), tuple(shape))


def _only(fields: _Fields, wanted: object, start: int, end: int, field: int) -> Iterator[tuple[int, int, int]]:
    if wanted:
        yield from (one for one in fields.within(start, end) if one[0] == field and one[2])


def _side(fields: _Fields, start: int, end: int) -> int | None:
    """A dimension: a number (1), or a name. Some writers say -1 or 0 for one that is open."""
    sides = (value for number, value, is_text in fields.within(start, end) if number == 1 and not is_text)
    return next((side for side in sides if 0 < side < 2**31), None)
