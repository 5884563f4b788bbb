"""Whether there may be words in a picture, told by a small net in a tenth of the time that reading takes.

Seven convolutions that end in one number for each square of 8 px, trained on words without meaning in drawn pictures
(`benchmarks/glance.py`, where the weights come from; CC0). Its threshold is set so low that it says no only where it is
sure: `docs/defects.md` has what it misses and how many clean pictures it sends to the reader all the same.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.core.errors import BadModelError
from sosie.faces.nets.onnx_file import Graph
from sosie.faces.onnx import open_session
from sosie.files.arrays import read_arrays

Image8 = NDArray[np.uint8]
Floats = NDArray[np.float32]

SHA256 = "0bfb813d1a71b1c100200ada65140ed6110929e64b00c7a905e30f75e3228c60"
"""Of the weights, `glance.npz` beside this module."""

THRESHOLD = 1.0
"""A square above it may have words. Of words that were read, the least had 1.4 (`docs/defects.md`)."""

STRIDES = (2, 2, 2, 1, 1, 1)
DILATIONS = (1, 1, 1, 1, 2, 2)
_SIZES = 3
"""It looks at the picture, and at the same halved once and twice: it was trained on capitals of 8 to 44 px."""
_LEAST = 48
"""Smaller ones, px on the shorter side, are not looked at."""
_MAX_BYTES = 1_000_000
_INSTALL = "pip install --force-reinstall sosie"


def may_hold_words(pixels: Image8) -> bool:
    """Whether there may be words in RGB or BGR pixels uint8 [h, w, 3]."""
    return max(float(looked.max()) for looked in maps(pixels)) > THRESHOLD


def maps(pixels: Image8) -> Iterator[Floats]:
    """How much each square of 8 px looks like a part of words, [h / 8, w / 8], at each size."""
    cv2: Any = importlib.import_module("cv2")
    for size in range(_SIZES):
        if size:
            columns, rows = pixels.shape[1] // 2, pixels.shape[0] // 2
            if min(columns, rows) < _LEAST:
                return
            pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
        given = (pixels.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / np.float32(127.5)
        (found,) = _session().run(None, {"picture": given})
        yield found[0, 0]


@cache
def _session() -> Any:
    """The process's one net."""
    content = files("sosie.scorers.defects").joinpath("glance.npz").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise BadModelError(f"sosie's glance.npz has SHA-256 {found}; expected {SHA256}", _INSTALL)
    model = glance_onnx(content)
    return open_session(model, lambda why: BadModelError(f"sosie's glance.npz cannot be loaded: {why}", _INSTALL))


def glance_onnx(content: bytes) -> bytes:
    """The net as an ONNX model, of the weights w0, b0, w1, ... in an `.npz` file."""
    arrays = read_arrays(content, _MAX_BYTES)
    graph, flow = Graph(), "picture"
    for at, (stride, dilation) in enumerate(zip(STRIDES, DILATIONS, strict=True)):
        flow = graph.node(
            "Conv",
            *(flow, *_constants(graph, arrays, at)),
            kernel_shape=(3, 3),
            strides=(stride, stride),
            dilations=(dilation, dilation),
            pads=(dilation,) * 4,
        )
        flow = graph.node("Relu", flow)
    last = graph.node("Conv", flow, *_constants(graph, arrays, len(STRIDES)), kernel_shape=(1, 1))
    return graph.model({"picture": (1, 3, "height", "width")}, {last: (1, 1, "rows", "columns")})


def _constants(graph: Graph, arrays: dict[str, NDArray[Any]], at: int) -> tuple[str, str]:
    weight, bias = (graph.constant(arrays[f"{kind}{at}"].astype(np.float32)) for kind in "wb")
    return weight, bias
