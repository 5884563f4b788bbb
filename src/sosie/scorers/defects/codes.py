"""QR and other two-dimensional codes, read by zxing-cpp (Apache-2.0)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from sosie.core.score import Score
from sosie.scorers.defects.check import Check
from sosie.scorers.sample import Sample

QR = Check("qr", 1.0, "codes", 0.0, 99.0)
CHECKS = (QR,)


def scores(sample: Sample) -> list[Score]:
    """`qr`: how many codes can be read in the image, whole or damaged."""
    zxing: Any = importlib.import_module("zxingcpp")
    grey = np.ascontiguousarray(sample.luma.round().astype(np.uint8))
    found: list[Any] = zxing.read_barcodes(grey, formats=zxing.BarcodeFormat.MatrixCodes, return_errors=True)
    return [QR.score(len(found), "; ".join(_named(code) for code in found))]


def _named(code: Any) -> str:
    corners = [(corner.x, corner.y) for corner in _corners(code.position)]
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    return f"a code ({code.format}) at x {left}, y {top}"


def _corners(position: Any) -> tuple[Any, Any, Any, Any]:
    """The four corners of a zxing-cpp position."""
    return position.top_left, position.top_right, position.bottom_right, position.bottom_left
