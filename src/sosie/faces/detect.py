"""Face detection with five points by YuNet (Wu et al. 2023, OpenCV Zoo), without torch."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.faces.weights import YUNET, quiet_opencv

Image8 = NDArray[np.uint8]

# Nose protrusion in units of the distance between eye line and mouth line; least mean error over 96 renders
# of eight people at yaw -32 to 32 degrees (2.9 degrees, correlation 0.98).
NOSE_PROTRUSION = 0.53


@dataclass(frozen=True, eq=False)
class Face:
    """One face in an image.

    `box` is x, y, width, height in pixels of that image and may reach beyond its border; `points`
    is float32 [5, 2], read-only: left eye (of the picture), right eye, nose, left mouth corner,
    right mouth corner; `confidence` is 0 to 1.
    """

    box: tuple[float, float, float, float]
    points: NDArray[np.float32] = field(repr=False)
    confidence: float

    @property
    def interocular(self) -> float:
        """The distance between the eyes, in pixels."""
        return float(np.linalg.norm(self.points[1] - self.points[0]))

    @property
    def yaw(self) -> float:
        """The turn of the head in degrees, -90 to 90; negative = turned to the left of the picture.

        An approximation: a nose that stands out by p = 0.53 of the distance between eyes and mouth
        moves by p * sin(yaw) along the eye line when the head turns. Tilt (roll) does not enter,
        nod (pitch) a little. On renders turned by up to 32 degrees the mean error is 3 degrees in
        512 x 512 px and 4 in 256 x 256.
        """
        left, right, nose = (self.points[i].astype(np.float64) for i in range(3))
        middle = (left + right) / 2
        mouth = (self.points[3].astype(np.float64) + self.points[4]) / 2
        scale = self.interocular * float(np.linalg.norm(mouth - middle)) * NOSE_PROTRUSION
        offset = float((nose - middle) @ (right - left))
        if scale == 0:
            return math.copysign(90.0, offset)
        return math.degrees(math.asin(max(-1.0, min(1.0, offset / scale))))


class Detector:
    """Holds the YuNet net; not to be shared between threads.

    Images are shrunk to at most 640 px on the long side and never enlarged. A face is found from
    about 12 px between the eyes at that size, 2 % of the long side (95 of 96 renders; at 9 px 83,
    at 8 px 64). If there is none, one more look at half the size finds a face that
    fills the picture. Takes 6 ms for 256 x 256 and 22 ms for 512 x 512 px on one core.
    """

    LONG_SIDE = 640
    CONFIDENCE = 0.6
    OVERLAP = 0.3
    # Below this OpenCV 4.12 reports boxes of 1e10 px in empty images.
    SHORT_SIDE = 64

    def __init__(self) -> None:
        """Reads the pinned weights; BadModelError or MissingExtraError as `PackagedWeights` says."""
        cv2: Any = importlib.import_module("cv2")
        model = np.frombuffer(YUNET.read(), dtype=np.uint8)
        nothing = np.zeros(0, dtype=np.uint8)
        with quiet_opencv(cv2):
            self._net: Any = cv2.FaceDetectorYN.create(
                "onnx", model, nothing, (320, 320), self.CONFIDENCE, self.OVERLAP, 50
            )
        self._cv2 = cv2

    def detect(self, image: Image8) -> tuple[Face, ...]:
        """The faces in `image` (RGB uint8 [h, w, 3]), largest box first; empty if there is none."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ValueError(f"expected an image uint8 [h, w, 3], got {image.dtype} {image.shape}")
        long_side = min(self.LONG_SIDE, max(image.shape[:2]))
        return self._at(image, long_side) or self._at(image, long_side // 2)

    def _at(self, image: Image8, long_side: int) -> tuple[Face, ...]:
        """The faces found with the long side of `image` shrunk to `long_side` px."""
        cv2 = self._cv2
        height, width = image.shape[:2]
        scale = long_side / max(height, width)
        columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
        small = image if scale == 1 else cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        bottom, right = max(0, self.SHORT_SIDE - rows), max(0, self.SHORT_SIDE - columns)
        if bottom or right:
            small = cv2.copyMakeBorder(small, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        found: NDArray[np.float32] | None = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        if found is None:
            return ()
        grow = np.array([width / columns, height / rows], dtype=np.float32)
        faces = [_face(row, grow) for row in found if np.isfinite(row).all()]
        return tuple(sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True))


def _face(row: NDArray[np.float32], grow: NDArray[np.float32]) -> Face:
    """The Face of one row of YuNet (box, five points, confidence), its pixels multiplied by `grow`."""
    x, y = (float(v) for v in row[0:2] * grow)
    w, h = (float(v) for v in row[2:4] * grow)
    # Points name pixel centres, and the centre of the first pixel is at 0.
    points = ((row[4:14].reshape(5, 2) + 0.5) * grow - 0.5).astype(np.float32)
    points.setflags(write=False)
    return Face((x, y, w, h), points, float(row[14]))
