"""How Sosie runs ONNX models: on the CPU, on one thread, so that a result does not depend on the machine's load."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from sosie.core.errors import BadModelError
from sosie.files.onnx import OnnxHeader

LAYOUT = (1, 3, 112, 112)
"""What a face encoder in ArcFace's layout takes: RGB, 112 x 112 px."""


def encoded_numbers(header: OnnxHeader) -> int | None:
    """How many numbers a face encoder in ArcFace's layout makes of a face; None for a model that is no such encoder.

    0 for one that leaves it open.
    """
    if len(header.inputs) != 1 or len(header.outputs) != 1:
        return None
    given, made = header.inputs[0], header.outputs[0].shape
    sides = zip(given.shape, LAYOUT, strict=False)
    fits = given.dtype == "float32" and len(given.shape) == 4 and all(side in (None, wanted) for side, wanted in sides)
    return (made[1] or 0) if fits and len(made) == 2 and made[0] in (None, 1) else None


def open_session(content: bytes, refused: Callable[[str], BadModelError]) -> Any:
    """An onnxruntime session of a file's bytes; raises `refused(why)` for bytes that it cannot load."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # onnxruntime's exceptions have no common base below Exception.
    except Exception as error:
        raise refused(str(error).strip()[:200]) from error
