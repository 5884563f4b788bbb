"""The soft mask of a face pass: a shape that follows the pose, or the classes of a face-parsing model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sosie.core.errors import BadImageError, BadModelError, NotFoundError
from sosie.faces.detect import NOSE_PROTRUSION, Face, Image8
from sosie.faces.onnx import open_session

Mask = NDArray[np.float32]
ClassMap = NDArray[np.uint8]
Pixels = NDArray[np.bool_]

# Shares of the face width: what the mask is grown by, and the width over which it falls from 1 to 0.
DILATE = 0.04
FEATHER = 0.12

# All lengths below are in units of the distance between eye line and mouth line, least squares over the YuNet boxes
# and points of 96 renders of eight people, turned by up to 32 degrees.
# A head that turns carries its eyes and mouth along more than its outline: how far the middle of the face stays behind
# for sin(yaw) = 1 (residual 0.03).
_LAG = 0.70
# From the eyes up to the middle of the forehead, below most hairlines.
_FOREHEAD = 0.70
# Where the face is widest, below the eye line, and how much of the box is face there: its sides are the outline.
_WIDEST = 0.30
_CHEEKS = 0.86
# Height over width of a face box; needed only where a head is tilted.
_BOX_RATIO = 1.315

# What follows the skin, in face widths: how deep in the egg a fringe may hang, how far beyond the egg skin is taken in,
# and how large a hole in the skin is closed. Likeness from which a pixel is skin.
_INNER, _OUTER, _CLOSED = 0.20, 0.16, 0.05
_LIKELY = 0.4
# Where the brows are, from where the face is widest up to the end of the egg.
_BROWS = 0.65

# The labels of BiSeNet trained on CelebAMask-HQ (Lee et al. 2020), in the order that the public exports share.
FACE_PARSING_CLASSES: tuple[str, ...] = (
    *("background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear"),
    *("earring", "nose", "mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat"),
)
FACE_CLASSES = frozenset(
    {"skin", "left brow", "right brow", "left eye", "right eye", "glasses", "nose", "mouth", "upper lip", "lower lip"}
)
# A parsed pixel farther than this share of the face width from the shape of the face belongs to somebody else.
_REACH = 0.35


@dataclass(frozen=True)
class Outline:
    """An egg around a face: two half ellipses of one width, in pixels; `down` is a unit vector."""

    centre: NDArray[np.float64]
    down: NDArray[np.float64]
    half_width: float
    above: float
    below: float

    @property
    def width(self) -> float:
        """The width of the face, in pixels."""
        return 2 * self.half_width

    def below_brows(self, shape: tuple[int, int]) -> Pixels:
        """The pixels [h, w] below the line of the brows."""
        y, x = np.ogrid[: shape[0], : shape[1]]
        down = (x - self.centre[0]) * self.down[0] + (y - self.centre[1]) * self.down[1]
        return down > -_BROWS * self.above

    def under_chin(self, shape: tuple[int, int]) -> Pixels:
        """The pixels [h, w] below the mouth or so, where neck and chest may be: a strip that widens."""
        y, x = np.ogrid[: shape[0], : shape[1]]
        dx, dy = x - self.centre[0], y - self.centre[1]
        down, aside = dx * self.down[0] + dy * self.down[1], np.abs(dx * self.down[1] - dy * self.down[0])
        return (down > 0.5 * self.below) & (aside < 1.3 * self.half_width + np.maximum(0, down - self.below))

    def distance(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Signed distance in pixels [h, w] from the outline, negative inside; exact on it, first order elsewhere."""
        y, x = np.ogrid[: shape[0], : shape[1]]
        dx, dy = x - self.centre[0], y - self.centre[1]
        v = dx * self.down[0] + dy * self.down[1]
        u = dx * self.down[1] - dy * self.down[0]
        height = np.where(v < 0, self.above, self.below)
        radius = np.hypot(u / self.half_width, v / height)
        slope = np.hypot(u / self.half_width**2, v / height**2)
        return np.where(slope > 0, radius * (radius - 1) / np.maximum(slope, 1e-12), -self.half_width)


def face_mask(face: Face, shape: tuple[int, int], *, dilate: float = DILATE, feather: float = FEATHER) -> Mask:
    """The mask of `face` as float32 [h, w], `shape` = (h, w): 1 in the face, 0 outside, soft in between.

    An egg from the middle of the forehead to the chin, between the cheeks. Its axis is
    perpendicular to the eye line (roll); the turn of the head moves it against the points (yaw);
    width and chin come from the box. `dilate` and `feather` are shares of its width, 0 and up: it
    grows by the first, and falls smoothly from 1 to 0 over the second, half of it on each side.
    ValueError for negative shares, and for a face without extent.
    """
    outline = face_outline(face)
    width = 2 * outline.half_width
    _check_shares(dilate, feather)
    return ramp(outline.distance(shape) - dilate * width, feather * width)


def skin_following(face: Face, skin: Mask, *, dilate: float = DILATE, feather: float = FEATHER) -> Mask:
    """The mask of `face` that follows its `skin` (likeness, float32 [h, w]), float32 [h, w]; soft as `face_mask`.

    From the brows down the egg of `face_mask` is always in it, in light and in shade. It takes in what is skin a
    little beyond (jaw, temples, what is under the chin), and of the forehead it leaves out what is not: a fringe.
    """
    _check_shares(dilate, feather)
    outline = face_outline(face)
    shape = (skin.shape[0], skin.shape[1])
    distance = outline.distance(shape) / outline.width - dilate
    # Brows, lips, a beard and highlights are holes in the skin; a fringe is no hole: it comes in from the edge.
    likely = skin > _LIKELY
    radius = max(1, round(_CLOSED * outline.width))
    closed = likely | eroded(dilated(likely, radius), radius)
    inner = np.where(outline.below_brows(shape), 0.0, _INNER)
    wanted = (distance < -inner) | (closed & (distance < _OUTER))
    return softened(wanted, feather * outline.width)


def softened(pixels: Pixels, feather: float) -> Mask:
    """The `pixels` [h, w] with an edge that falls from 1 to 0 over `feather` px, half of it on each side."""
    soft = pixels.astype(np.float64)
    # Three box filters of a third each come near to a Gaussian and end where the feather shall end.
    radius = max(0, round(feather / 6))
    weight = np.ones(pixels.shape)
    for _ in range(3):
        soft = window_sum(soft, radius) / window_sum(weight, radius)
    return np.clip(soft, 0, 1).astype(np.float32)


def parsed_mask(classes: ClassMap, face: Face, *, dilate: float = DILATE, feather: float = FEATHER) -> Mask:
    """The mask of `face` by a face-parsing model, float32 [h, w]; takes the place of `face_mask`.

    `classes` [h, w] are the indices of FACE_PARSING_CLASSES (`FaceParser.parse`) in an image in
    whose pixels `face` is given. Of what counts as face, only what is near this one is taken;
    `dilate` and `feather` are shares of the face width as in `face_mask`. BadImageError if the
    model saw no face there; ValueError for anything but a class map.
    """
    if classes.ndim != 2 or classes.size == 0 or int(classes.max()) >= len(FACE_PARSING_CLASSES):
        raise ValueError(f"expected classes [h, w] below {len(FACE_PARSING_CLASSES)}, got shape {classes.shape}")
    _check_shares(dilate, feather)
    outline = face_outline(face)
    width = 2 * outline.half_width
    counts = np.array([name in FACE_CLASSES for name in FACE_PARSING_CLASSES])[classes]
    shape = (classes.shape[0], classes.shape[1])
    seen = counts & (outline.distance(shape) < _REACH * width)
    if not seen.any():
        message = "the face-parsing model marks no face where the detector found one; expected skin, eyes or mouth"
        raise BadImageError(message, "leave the face-parsing model out: the mask then follows the five points")
    return softened(dilated(seen, round(dilate * width)), feather * width)


class FaceParser:
    """A face-parsing model of the user as ONNX, run by onnxruntime on one thread.

    The layout of BiSeNet on CelebAMask-HQ: one input float32 [n, 3, 512, 512], RGB with ImageNet's
    mean and deviation; the first output [n, 19, 512, 512], one plane for each of FACE_PARSING_CLASSES
    (further outputs are training heads and are not used).
    """

    SIZE = 512
    _MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
    _DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)

    def __init__(self, path: Path) -> None:
        """Loads and tries the model at `path`: NotFoundError if it is missing, BadModelError if it is no such model."""
        if not path.is_file():
            raise NotFoundError(f"{path}: the face-parsing model does not exist", "check the path")
        self._path = path
        self._session = _open_session(path)
        self._input = _checked_input(path, self._session)
        self.parse(np.full((64, 64, 3), 128, dtype=np.uint8))

    def parse(self, image: Image8) -> ClassMap:
        """The class of every pixel of `image` (RGB uint8 [h, w, 3], a crop with one head), uint8 [h, w].

        BadModelError if the model fails or gives something else than 19 finite planes.
        """
        height, width = image.shape[:2]
        small = Image.fromarray(image).resize((self.SIZE, self.SIZE), Image.Resampling.BILINEAR)
        blob = (np.asarray(small, dtype=np.float32) / 255 - self._MEAN) / self._DEVIATION
        try:
            output: Any = self._session.run(None, {self._input: blob.transpose(2, 0, 1)[np.newaxis]})[0]
        # onnxruntime's exceptions have no common base below Exception.
        except Exception as error:
            raise _not_a_parser(self._path, f"a model that fails on an image ({str(error).strip()[:200]})") from error
        planes = np.asarray(output)
        wanted = (1, len(FACE_PARSING_CLASSES), self.SIZE, self.SIZE)
        if planes.shape != wanted or not np.isfinite(planes).all():
            raise _not_a_parser(self._path, f"a first output {planes.dtype} {list(planes.shape)}")
        classes = planes[0].argmax(axis=0).astype(np.uint8)
        return np.array(Image.fromarray(classes).resize((width, height), Image.Resampling.NEAREST))


def window_sum(values: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """For every pixel of `values` [h, w, ...] the sum over the square of 2 * radius + 1 px around it.

    Nothing is added for what lies beyond the border.
    """
    total: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if radius > 0:
        total = _sum_down(total, radius)
        total = np.swapaxes(_sum_down(np.swapaxes(total, 0, 1), radius), 0, 1)
    return total


def _sum_down(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Sums over 2 * radius + 1 rows; sums of whole numbers are exact."""
    rows = len(values)
    sums = np.zeros((rows + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    places = np.arange(rows)
    return sums[np.minimum(places + radius + 1, rows)] - sums[np.maximum(places - radius, 0)]


def dilated(pixels: Pixels, radius: int) -> Pixels:
    """The `pixels` [h, w] grown by `radius` px in every direction, diagonals included."""
    return window_sum(pixels, radius) > 0.5


def eroded(pixels: Pixels, radius: int) -> Pixels:
    """The `pixels` [h, w] without those that are within `radius` px of others, diagonals included."""
    return ~dilated(~pixels, radius)


def face_outline(face: Face) -> Outline:
    """The egg around `face`, in the pixels of its picture. ValueError for a face without extent."""
    points = face.points.astype(np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    right = points[1] - points[0]
    unit, interocular = float(np.linalg.norm(mouth - eyes)), float(np.linalg.norm(right))
    x, y, w, h = face.box
    if min(unit, interocular, w, h) <= 0:
        raise ValueError(f"expected a face with extent, got the box {face.box} and points {face.points.tolist()}")
    right = right / interocular
    down = np.array([-right[1], right[0]])
    half_width, half_height = upright_box(w, h, math.atan2(right[1], right[0]))
    turn = float((points[2] - eyes) @ right) / (NOSE_PROTRUSION * unit)
    chin = float((np.array([x + w / 2, y + h / 2]) - eyes) @ down) + half_height
    widest = _WIDEST * unit
    centre = eyes - right * (_LAG * unit * max(-1.0, min(1.0, turn))) + down * widest
    # A box that ends above the mouth is wrong; the points are not.
    below = max(chin, 1.4 * unit) - widest
    return Outline(centre, down, _CHEEKS * half_width, widest + _FOREHEAD * unit, below)


def upright_box(width: float, height: float, roll: float) -> tuple[float, float]:
    """Half width and half height of the ellipse, tilted by `roll` (radians), that an upright box encloses.

    The sum of the squares of an ellipse's half axes is that of its box at any tilt. Their
    difference shows in the box by the cosine of 2 * roll; as far as it does not, the usual ratio
    of a face box stands in.
    """
    total = (width**2 + height**2) / 4
    usual = total * (_BOX_RATIO**2 - 1) / (_BOX_RATIO**2 + 1)
    seen = math.cos(2 * roll)
    difference = usual + seen * ((height**2 - width**2) / 4 - usual * seen)
    difference = max(-0.9 * total, min(0.9 * total, difference))
    return math.sqrt((total - difference) / 2), math.sqrt((total + difference) / 2)


def ramp(distance: NDArray[np.float64], feather: float) -> Mask:
    """1 below -feather / 2, 0 above feather / 2, and the smooth step 3t^2 - 2t^3 in between."""
    if feather <= 0:
        return (distance <= 0).astype(np.float32)
    t = np.clip(0.5 - distance / feather, 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def _check_shares(dilate: float, feather: float) -> None:
    if not (dilate >= 0 and feather >= 0):
        raise ValueError(f"expected shares of the face width of 0 or more, got dilate {dilate} and feather {feather}")


def _open_session(path: Path) -> Any:
    content = path.read_bytes()
    return open_session(content, lambda why: _not_a_parser(path, f"a file that onnxruntime cannot load ({why})"))


def _checked_input(path: Path, session: Any) -> str:
    """The name of the model's one image input; BadModelError if input or first output have another layout."""
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise _not_a_parser(path, f"{len(inputs)} inputs, the first of {inputs[0].type if inputs else 'nothing'}")
    size, classes = FaceParser.SIZE, len(FACE_PARSING_CLASSES)
    for what, shape, wanted in (
        ("input", list(inputs[0].shape), (1, 3, size, size)),
        ("first output", list(output.shape), (1, classes, size, size)),
    ):
        # A dimension that the model leaves open is a name or None; the trial run tells.
        fits = len(shape) == 4 and all(not isinstance(f, int) or f == w for f, w in zip(shape, wanted, strict=True))
        if not fits:
            raise _not_a_parser(path, f"{what} shape {shape}")
    return str(inputs[0].name)


def _not_a_parser(path: Path, found: str) -> BadModelError:
    message = f"{path}: found {found}; expected one input float32 [1, 3, 512, 512] and a first output [1, 19, 512, 512]"
    return BadModelError(message, "use a BiSeNet face-parsing model with the 19 classes of CelebAMask-HQ as ONNX")
