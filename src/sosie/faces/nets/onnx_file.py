"""Writes and rewrites small ONNX models, byte by byte.

An ONNX file is a protocol buffer (`onnx.proto3`), in which a message is a row of numbered fields: a model (field 7: the
graph), in whose graph are nodes (1), weights (5), inputs (11) and outputs (12). Only files of pinned digests are read
here, so that nothing guards against hostile ones; `sosie.files.onnx` reads those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IR_VERSION, OPERATORS = 8, 13
"""What onnxruntime 1.20, the oldest that Sosie takes, reads as well as the newest."""

OPSET, GRAPH = 8, 7
NODE, NAME, WEIGHT, INPUT, OUTPUT = 1, 2, 5, 11, 12
"""Numbers of the fields of a model, and of a graph."""

Attribute = int | Sequence[int]
Side = int | str
Weights = NDArray[np.float32] | NDArray[np.int64]
Field = tuple[int, int | bytes]

TYPES = {1: np.dtype("<f4"), 3: np.dtype("i1"), 7: np.dtype("<i8")}
_CODES = {"float32": 1, "int64": 7}
_FLOAT32, _INT, _INTS = 1, 2, 7


@dataclass
class Graph:
    """A graph that grows: each step adds one node or weight and answers its name."""

    nodes: list[bytes] = field(default_factory=list[bytes])
    weights: list[bytes] = field(default_factory=list[bytes])

    def constant(self, values: Weights, name: str = "") -> str:
        """Weights or shapes, float32 or int64."""
        name = name or f"w{len(self.weights)}"
        dims = b"".join(number(1, side) for side in values.shape)
        raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        self.weights.append(dims + number(2, _CODES[values.dtype.name]) + text(8, name) + message(9, raw))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """The output of one operator `kind`; an attribute is a whole number or several."""
        name = f"n{len(self.nodes)}"
        named = b"".join(text(1, one) for one in inputs) + text(2, name) + text(4, kind)
        self.nodes.append(named + b"".join(message(5, _attribute(*item)) for item in attributes.items()))
        return name

    def model(self, inputs: Mapping[str, Sequence[Side]], outputs: Mapping[str, Sequence[Side]]) -> bytes:
        """The whole file; inputs and outputs are float32, by name and shape, in which a word is a side left open."""
        rows = [*(message(NODE, node) for node in self.nodes), text(NAME, "sosie")]
        rows += [message(WEIGHT, weight) for weight in self.weights]
        rows += [message(INPUT, _value(*item)) for item in inputs.items()]
        rows += [message(OUTPUT, _value(*item)) for item in outputs.items()]
        return number(1, IR_VERSION) + message(OPSET, number(2, OPERATORS)) + message(GRAPH, b"".join(rows))


def fields(content: bytes) -> Iterator[Field]:
    """Number and value of each field of a message: whole numbers, and bytes for everything else."""
    at = 0
    while at < len(content):
        tag, at = _read(content, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read(content, at)
            yield tag >> 3, value
            continue
        length, at = _read(content, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        yield tag >> 3, content[at : at + length]
        at += length


def parts(content: bytes, tag: int) -> list[bytes]:
    """The messages, or texts, in the fields of one number."""
    return [value for found, value in fields(content) if found == tag and isinstance(value, bytes)]


def texts(content: bytes, tag: int) -> list[str]:
    """The texts in the fields of one number."""
    return [part.decode() for part in parts(content, tag)]


def numbers(content: bytes, tag: int) -> list[int]:
    """The whole numbers in the fields of one number, one each or packed."""
    found: list[int] = []
    for number_, value in fields(content):
        if number_ == tag and isinstance(value, int):
            found.append(value)
        elif number_ == tag and isinstance(value, bytes):
            at = 0
            while at < len(value):
                one, at = _read(value, at)
                found.append(one)
    return found


def number(tag: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return _varint(tag << 3) + _varint(value)


def text(tag: int, value: str) -> bytes:
    """A field that holds a text."""
    return message(tag, value.encode())


def message(tag: int, value: bytes) -> bytes:
    """A field that holds bytes, or another message."""
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return text(1, name) + number(3, value) + number(20, _INT)
    return text(1, name) + b"".join(number(8, one) for one in value) + number(20, _INTS)


def _value(name: str, shape: Sequence[Side]) -> bytes:
    sides = b"".join(message(1, text(2, side) if isinstance(side, str) else number(1, side)) for side in shape)
    return text(1, name) + message(2, message(1, number(1, _FLOAT32) + message(2, sides)))


def _varint(value: int) -> bytes:
    if value < 0:
        raise ValueError(f"expected a number that is not negative, got {value}")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read(content: bytes, at: int) -> tuple[int, int]:
    """A whole number at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
