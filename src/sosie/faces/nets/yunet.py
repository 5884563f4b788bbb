"""YuNet (Wu et al. 2023, OpenCV Zoo) under onnxruntime: what `cv2.FaceDetectorYN` finds, in less than half the time.

One run takes several pictures of one size. Reading the net's answer follows OpenCV's `face_detect.cpp`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.faces.nets.unpacked import unpacked
from sosie.faces.onnx import open_session
from sosie.faces.weights import YUNET, refused

Image8 = NDArray[np.uint8]
Rows = NDArray[np.float32]

STRIDES = (8, 16, 32)
"""The px between the places of the net's three grids."""

PARTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""What it says of each place, and in how many numbers."""

MOST = 50
"""Faces of one picture that are told apart, the surest ones."""


class YuNet:
    """Holds the net; `confidence` is what a face must have, `overlap` how much of it two boxes may share."""

    def __init__(self, confidence: float, overlap: float) -> None:
        """Reads the pinned weights; BadModelError or MissingExtraError as `PackagedWeights` says."""
        self._cv2: Any = importlib.import_module("cv2")
        self._confidence, self._overlap = confidence, overlap
        outputs = {f"{part}_{stride}": (1, "places", numbers) for part, numbers in PARTS.items() for stride in STRIDES}
        model = unpacked(YUNET.read(), {"input": ("pictures", 3, "height", "width")}, outputs)
        self._names = list(outputs)
        self._session = open_session(model, lambda why: refused(YUNET, why))

    def look(self, pictures: Sequence[Image8]) -> list[Rows]:
        """The faces in each of some RGB pictures of one size, float32 [n, 15], the surest first.

        A row is a box (x, y, width, height), five points (the person's right eye first), and the confidence.
        """
        height, width = pictures[0].shape[:2]
        high, wide = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in (height, width))
        batch = np.zeros((len(pictures), 3, high, wide), np.float32)
        for at, picture in enumerate(pictures):
            batch[at, :, :height, :width] = picture[:, :, ::-1].transpose(2, 0, 1)
        outputs = dict(zip(self._names, self._session.run(self._names, {"input": batch}), strict=True))
        found = [self._grid(outputs, stride, len(pictures), wide // stride) for stride in STRIDES]
        return [self._distinct(np.concatenate(rows)) for rows in zip(*found, strict=True)]

    def _grid(self, outputs: dict[str, Rows], stride: int, count: int, columns: int) -> list[Rows]:
        """What one grid shows of each picture."""
        cls, obj, boxes, points = (
            outputs[f"{part}_{stride}"].reshape(count, -1, numbers) for part, numbers in PARTS.items()
        )
        sure = np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1))[:, :, 0]
        found: list[Rows] = []
        for at in range(count):
            (places,) = np.nonzero(sure[at] >= self._confidence)
            corner = np.stack([places % columns, places // columns], axis=1).astype(np.float32)
            middle, size = (corner + boxes[at, places, :2]) * stride, np.exp(boxes[at, places, 2:]) * stride
            marks = (points[at, places].reshape(-1, 5, 2) + corner[:, None]) * stride
            row = [middle - size / 2, size, marks.reshape(-1, 10), sure[at, places, None]]
            found.append(np.concatenate(row, axis=1, dtype=np.float32))
        return found

    def _distinct(self, rows: Rows) -> Rows:
        """The surest of the rows whose boxes overlap."""
        if len(rows) < 2:
            return rows
        boxes, sure = rows[:, :4].astype(int).tolist(), rows[:, 14].tolist()
        kept = self._cv2.dnn.NMSBoxes(boxes, sure, self._confidence, self._overlap, 1.0, MOST)
        return rows[np.asarray(kept, int).ravel()]
