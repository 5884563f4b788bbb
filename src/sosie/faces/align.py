"""Alignment of a face to the template that ArcFace-style encoders were trained on."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sosie.faces.picture import Picture, picture_of

Image8 = NDArray[np.uint8]
Points = NDArray[np.float32] | NDArray[np.float64]

# Side of the crop that ArcFace-style encoders take, px.
CROP = 112

# Five points in that crop: left eye of the picture, right eye, nose, left and right mouth
# corner (insightface, ArcFace, Deng et al. 2019).
ARCFACE_TEMPLATE: NDArray[np.float64] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def umeyama(source: Points, target: Points) -> NDArray[np.float64]:
    """The similarity transform [2, 3] that brings `source` nearest to `target`, both [n, 2], n >= 2.

    Least squares over rotation, uniform scale and translation, without reflection: Umeyama,
    "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991,
    equations 40 to 42. ValueError if the shapes differ or the source points coincide.
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"expected two arrays [n, 2] with n >= 2, got {source.shape} and {target.shape}")
    source = np.asarray(source, dtype=np.float64)
    target = np.asarray(target, dtype=np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    variance = float((source_centred**2).sum()) / len(source)
    if variance <= np.finfo(np.float64).eps * max(1.0, float((source_mean**2).sum())):
        raise ValueError("the source points coincide; expected at least two different points")
    left, singular, right = np.linalg.svd(target_centred.T @ source_centred / len(source))
    signs = np.array([1.0, 1.0 if np.linalg.det(left) * np.linalg.det(right) >= 0 else -1.0])
    linear = float((singular * signs).sum()) / variance * (left * signs) @ right
    return np.column_stack([linear, target_mean - linear @ source_mean])


def align(image: Image8 | Picture, points: Points, size: int = CROP) -> Image8:
    """The face with these five `points` (pixels of `image`), cut out as uint8 [size, size, 3]."""
    return warp(image, umeyama(points, ARCFACE_TEMPLATE * (size / CROP)), size)


def warp(image: Image8 | Picture, matrix: NDArray[np.float64], size: int) -> Image8:
    """`image` (RGB [h, w, 3]) under the similarity `matrix` [2, 3], as uint8 [size, size, 3], black outside.

    A face that shrinks to less than half is averaged over whole blocks of pixels first: bilinear
    sampling alone would pick single pixels out of a large photo, and thus noise. To less than a quarter: the
    picture's own halves come before that.
    """
    cv2: Any = importlib.import_module("cv2")
    picture = picture_of(image)
    pixels, level = picture.pixels, max(0, int(_shrink(matrix) / 2).bit_length() - 1)
    if level:
        pixels, scale = picture.halved(level), 2**level
        middle = (scale - 1) / 2
        matrix = matrix @ np.array([[scale, 0, middle], [0, scale, middle], [0, 0, 1]], dtype=np.float64)
    shrink = int(_shrink(matrix))
    if shrink >= 2:
        pixels, matrix = _reduced(pixels, matrix, size, shrink)
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR)


def _shrink(matrix: NDArray[np.float64]) -> float:
    """How many pixels lie along one pixel of what `matrix` makes."""
    return 1 / math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def _reduced(image: Image8, matrix: NDArray[np.float64], size: int, shrink: int) -> tuple[Image8, NDArray[np.float64]]:
    """The part of `image` that `matrix` shows, reduced by `shrink`, and the matrix for it."""
    cv2: Any = importlib.import_module("cv2")
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], dtype=np.float64)
    seen = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    x0, y0 = (int(v) for v in np.maximum(np.floor(seen.min(axis=0)) - 2 * shrink, 0))
    x1, y1 = (int(v) for v in np.ceil(seen.max(axis=0)) + 2 * shrink)
    part = image[y0:y1, x0:x1]
    rows, columns = part.shape[0] // shrink, part.shape[1] // shrink
    if rows == 0 or columns == 0:
        return image, matrix
    part = cv2.resize(part[: rows * shrink, : columns * shrink], (columns, rows), interpolation=cv2.INTER_AREA)
    centre = (shrink - 1) / 2
    to_image = np.array([[shrink, 0, x0 + centre], [0, shrink, y0 + centre], [0, 0, 1]], dtype=np.float64)
    return part, matrix @ to_image
