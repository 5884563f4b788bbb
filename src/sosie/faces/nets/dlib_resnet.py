"""dlib's face net without dlib: the weights of its own file, as a model that onnxruntime runs.

The net is dlib's `dnn_face_recognition_ex.cpp` (King 2017): 29 convolutions, each followed by a scale and a shift of
its channels, in residual blocks. The file is dlib's serialisation (`dlib/serialize.h`, `dlib/dnn/layers.h`): layer
after layer from the picture on, each a name and a tensor (version 2, four sides, floats little-endian), which is all
that is read of it. Only a file of the pinned digest comes here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sosie.core.errors import BadModelError
from sosie.faces.nets.onnx_file import Graph

SIDE, NUMBERS = 150, 128
"""The side of the chip that the net looks at, px, and how many numbers it makes of it."""

MEAN = np.array([122.782, 117.001, 104.298], np.float32)
SCALE = np.float32(256)
"""What dlib takes off each channel (red, green, blue) of 0 to 255, and by what it divides them."""

CONVOLUTION, AFFINE, DENSE = b"\x01\x05con_4", b"\x01\x07affine_", b"\x01\x04fc_2"
_KINDS = re.compile(b"|".join((CONVOLUTION, AFFINE, DENSE)))
_SIZES = (1, 6, 8, 6, 6, 2)
_CHANNELS = (32, 32, 64, 128, 256, 256)
"""How many convolutions a level of the net has, and how many channels they give; the first is the stem."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Flow:
    """What has come so far: the name of it in the graph, its channels and its side in px."""

    name: str
    channels: int
    side: int


def dlib_onnx(content: bytes) -> bytes:
    """The net of dlib's file `content` as an ONNX model.

    It takes float32 [n, 3, 150, 150] (RGB, less `MEAN`, divided by `SCALE`) and gives float32 [n, 128]. BadModelError
    for a file that has other layers.
    """
    try:
        return _Net(content).model()
    except (IndexError, ValueError, StopIteration) as error:
        message = f"dlib's face net cannot be read: {type(error).__name__}: {error}"
        raise BadModelError(message, 'pip install --force-reinstall "sosie[judges]"') from error


class _Net:
    """Builds the model, reading the file as far as each layer needs."""

    def __init__(self, content: bytes) -> None:
        self._tensors = _tensors(content)
        self._graph = Graph()

    def model(self) -> bytes:
        """The whole net, from the picture to the numbers."""
        graph = self._graph
        stem = self._convolution(_Flow("chip", 3, SIDE), _CHANNELS[0], 7, 2)
        pooled = graph.node("MaxPool", graph.node("Relu", stem.name), kernel_shape=(3, 3), strides=(2, 2))
        flow = _Flow(pooled, stem.channels, (stem.side - 3) // 2 + 1)
        for size, channels in zip(_SIZES[1:], _CHANNELS[1:], strict=True):
            for block in range(size // 2):
                flow = self._block(flow, channels, shrinks=channels > 32 and block == 0)
        mean = graph.node("Flatten", graph.node("GlobalAveragePool", flow.name))
        weights = self._read(DENSE).reshape(flow.channels, NUMBERS)
        numbers = graph.node("MatMul", mean, graph.constant(weights))
        return graph.model({"chip": ("n", 3, SIDE, SIDE)}, {numbers: ("n", NUMBERS)})

    def _block(self, flow: _Flow, channels: int, shrinks: bool) -> _Flow:
        """Two convolutions and the way around them; one that `shrinks` halves the side."""
        graph = self._graph
        first = self._convolution(flow, channels, 3, 2 if shrinks else 1)
        first = _Flow(graph.node("Relu", first.name), channels, first.side)
        second, around = self._convolution(first, channels, 3, 1), flow
        if shrinks:
            name = graph.node("AveragePool", flow.name, kernel_shape=(2, 2), strides=(2, 2))
            around = _Flow(name, flow.channels, flow.side // 2)
        side = max(second.side, around.side)
        total = graph.node("Add", self._filled(second, channels, side), self._filled(around, channels, side))
        return _Flow(graph.node("Relu", total), channels, side)

    def _filled(self, flow: _Flow, channels: int, side: int) -> str:
        """`flow` with zeros behind it up to so many channels and such a side: dlib's sum of unlike tensors."""
        more, beyond = channels - flow.channels, side - flow.side
        if not more and not beyond:
            return flow.name
        ends = np.array([0, 0, 0, 0, 0, more, beyond, beyond], np.int64)
        return self._graph.node("Pad", flow.name, self._graph.constant(ends))

    def _convolution(self, flow: _Flow, channels: int, kernel: int, stride: int) -> _Flow:
        """A convolution with the scale and shift after it in its weights; dlib fills the border at stride 1 alone."""
        edge = kernel // 2 if stride == 1 else 0
        values, affine = self._read(CONVOLUTION), self._read(AFFINE).reshape(2, channels)
        weights = values[:-channels].reshape(channels, flow.channels, kernel, kernel) * affine[0][:, None, None, None]
        bias = values[-channels:] * affine[0] + affine[1]
        inputs = flow.name, self._graph.constant(weights), self._graph.constant(bias)
        name = self._graph.node(
            "Conv", *inputs, kernel_shape=(kernel, kernel), strides=(stride, stride), pads=(edge,) * 4
        )
        return _Flow(name, channels, (flow.side + 2 * edge - kernel) // stride + 1)

    def _read(self, kind: bytes) -> Floats:
        found, values = next(self._tensors)
        if found != kind:
            raise ValueError(f"found the layer {found!r}, expected {kind!r}")
        return values


def _tensors(content: bytes) -> Iterator[tuple[bytes, Floats]]:
    """Name and weights of each layer that has some, as they follow each other."""
    at = 0
    while True:
        found = _KINDS.search(content, at)
        if found is None:
            return
        kind = found.group()
        # The layer that makes the numbers says first how many it takes and makes.
        before = 2 if kind == DENSE else 0
        numbers, at = _numbers(content, found.end(), before + 5)
        version, sides = numbers[before], numbers[before + 1 :]
        if version != 2:
            raise ValueError(f"a tensor of version {version}")
        count = int(np.prod(sides))
        yield kind, np.frombuffer(content, "<f4", count, at).astype(np.float32)
        at += 4 * count


def _numbers(content: bytes, at: int, count: int) -> tuple[list[int], int]:
    """So many of dlib's whole numbers (a byte that says how many follow, least first), and the place after them."""
    found: list[int] = []
    for _ in range(count):
        size = content[at] & 15
        found.append(int.from_bytes(content[at + 1 : at + 1 + size], "little"))
        at += 1 + size
    return found, at
