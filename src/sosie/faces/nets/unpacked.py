"""Block-quantised ONNX models with their weights as plain numbers: the same values, ready when the model is loaded.

OpenCV Zoo's files keep a weight as int8 with a scale for each block, list their weights among the inputs, and fix the
sizes of what they take. Every runtime would unpack the weights anew for each picture, or refuse the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.faces.nets.onnx_file import (
    GRAPH,
    NODE,
    TYPES,
    WEIGHT,
    Graph,
    Side,
    numbers,
    parts,
    texts,
)

Array = NDArray[Any]


def unpacked(content: bytes, inputs: Mapping[str, Sequence[Side]], outputs: Mapping[str, Sequence[Side]]) -> bytes:
    """The model with plain weights; `inputs` and `outputs` say what it takes and gives, by name and shape."""
    (graph,) = parts(content, GRAPH)
    arrays = dict(_array(weight) for weight in parts(graph, WEIGHT))
    new = Graph()
    for node in parts(graph, NODE):
        (kind,), given = texts(node, 4), texts(node, 1)
        if kind == "DequantizeLinear":
            arrays[texts(node, 2)[0]] = _dequantised(node, *(arrays[name] for name in given))
        elif kind == "Reshape" and all(name in arrays for name in given):
            arrays[texts(node, 2)[0]] = arrays[given[0]].reshape(arrays[given[1]].astype(int).tolist())
        else:
            new.nodes.append(node)
    for name in dict.fromkeys(name for node in new.nodes for name in texts(node, 1) if name in arrays):
        new.constant(_plain(arrays[name]), name)
    return new.model(inputs, outputs)


def _dequantised(node: bytes, packed: Array, scale: Array, zero: Array) -> NDArray[np.float32]:
    """(packed - zero) x scale, in which each scale and zero counts for a block along one axis."""
    attributes = {texts(one, 1)[0]: numbers(one, 3)[0] for one in parts(node, 5)}
    axis, block = attributes["axis"], attributes["block_size"]
    scales, zeros = (np.repeat(one, block, axis).take(range(packed.shape[axis]), axis) for one in (scale, zero))
    return np.asarray((packed.astype(np.int32) - zeros.astype(np.int32)) * scales, np.float32)


def _array(weight: bytes) -> tuple[str, Array]:
    (name,), (kind,) = texts(weight, 8), numbers(weight, 2)
    raw = b"".join(parts(weight, 9))
    return name, np.frombuffer(raw, TYPES[kind]).reshape(numbers(weight, 1))


def _plain(values: Array) -> NDArray[np.float32] | NDArray[np.int64]:
    return values.astype(np.int64) if values.dtype.kind == "i" else values.astype(np.float32)
