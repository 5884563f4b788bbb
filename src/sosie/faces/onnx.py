"""How Sosie runs ONNX models: on the CPU, on one thread, so that a result does not depend on the machine's load."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from sosie.core.errors import BadModelError


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
