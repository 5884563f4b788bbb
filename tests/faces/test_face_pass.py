"""The face pass without its model: key points, crop, mask, blend and the choice of the face."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from places import ROOT

from sosie.core import Detail
from sosie.core.errors import BadImageError, BadModelError, NotFoundError
from sosie.faces.blend import Blend, Insertion, Seam, blend, composite, insert, seam
from sosie.faces.choose import choose_face
from sosie.faces.colour import ciede2000, from_lab, to_lab
from sosie.faces.crop import MARGIN, TIGHTEST, Crop, face_crop, patch_of
from sosie.faces.detect import Detector, Face
from sosie.faces.grain import grain, grain_level
from sosie.faces.keypoints import COLOURS, INSTANTID_STYLE, KeypointStyle, draw_keypoints
from sosie.faces.mask import FACE_CLASSES, FACE_PARSING_CLASSES, FaceParser, face_mask, parsed_mask
from sosie.faces.match import in_bands, match_colour
from sosie.faces.ring import ring_of
from sosie.files.images import read_image

pytestmark = pytest.mark.once

EXAMPLES = ROOT / "examples" / "mira"
SEAM_LIMIT = Detail().seam
# What a visible fault looks like: lighter, redder, bluer.
VISIBLE = (6.0, 4.0, -5.0)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [np.asarray(read_image(path)) for path in sorted(EXAMPLES.glob("*.jpg"))]


@pytest.fixture(scope="module")
def faces(pictures: list[np.ndarray]) -> list[Face]:
    detector = Detector()
    return [detector.detect(picture)[0] for picture in pictures]


def face_at(
    yaw: float = 0.0, roll: float = 0.0, unit: float = 60.0, middle: tuple[float, float] = (150.0, 160.0)
) -> Face:
    """A face as the detector would give it; `unit` px from eyes to mouth, the eyes' middle at `middle`."""
    shift = 0.53 * math.sin(math.radians(yaw))
    points = np.array([[-0.46, 0], [0.46, 0], [shift, 0.55], [-0.35, 1], [0.35, 1]]) * unit
    centre = np.array([-0.70 * math.sin(math.radians(yaw)), 0.325]) * unit
    turn = math.radians(roll)
    spin = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    across, along = 1.06 * unit, 1.394 * unit
    half = np.sqrt((spin**2) @ np.array([across**2, along**2]))
    x, y = spin @ centre + middle - half
    return Face((x, y, 2 * half[0], 2 * half[1]), (points @ spin.T + middle).astype(np.float32), 0.9)


def shifted(picture: np.ndarray, by: tuple[float, float, float], blur: float = 1.0) -> np.ndarray:
    """The picture with its Lab colours moved, and blurred: what a diffusion model may do to a crop."""
    moved = np.clip(np.rint(from_lab(to_lab(picture) + np.array(by))), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(moved).filter(ImageFilter.GaussianBlur(blur)))


# --- key points ---


def instantid_by_opencv(points: np.ndarray, shape: tuple[int, int], stick: int, radius: int) -> np.ndarray:
    """InstantID's key-point image by the OpenCV calls that it is made of."""
    cv2 = pytest.importorskip("cv2")
    canvas = np.zeros((*shape, 3))
    for index in (0, 1, 3, 4):
        (x0, y0), (x1, y1) = points[index], points[2]
        length, angle = math.hypot(x0 - x1, y0 - y1), math.degrees(math.atan2(y0 - y1, x0 - x1))
        middle = (int((x0 + x1) / 2), int((y0 + y1) / 2))
        corners = cv2.ellipse2Poly(middle, (int(length / 2), stick), int(angle), 0, 360, 1)
        canvas = cv2.fillConvexPoly(canvas, corners, COLOURS[index])
    canvas = (canvas * 0.6).astype(np.uint8)
    for colour, (x, y) in zip(COLOURS, points, strict=True):
        canvas = cv2.circle(canvas, (int(x), int(y)), radius, colour, -1)
    return canvas


@pytest.mark.parametrize(("stick", "radius"), [(4, 10), (2, 5), (6, 14)])
def test_key_points_are_drawn_as_instantid_draws_them(faces: list[Face], stick: int, radius: int) -> None:
    for face in faces[::3]:
        for size in (256, 512, 1024):
            points = face.points * (size / 512)
            ours = draw_keypoints(points, (size, size), KeypointStyle(stick, radius))
            theirs = instantid_by_opencv(points, (size, size), stick, radius)
            drawn, wanted = ours.any(axis=2), theirs.any(axis=2)
            assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.97
            assert ((ours == theirs).all(axis=2) & wanted).sum() / (drawn | wanted).sum() > 0.97


def test_the_limbs_alone_are_those_of_opencv(faces: list[Face]) -> None:
    for face in faces[::3]:
        ours = draw_keypoints(face.points * 2, (1024, 1024), KeypointStyle(4, 0.1)).any(axis=2)
        theirs = instantid_by_opencv(face.points * 2, (1024, 1024), 4, 0).any(axis=2)
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


def test_each_point_has_its_colour_and_each_limb_three_fifths_of_it(faces: list[Face]) -> None:
    points = faces[0].points * 2
    image = draw_keypoints(points, (1024, 1024))
    assert KeypointStyle(4, 10) == INSTANTID_STYLE
    for point, colour in zip(points, COLOURS, strict=True):
        assert tuple(image[int(point[1]), int(point[0])]) == colour
    for index in (0, 1, 3, 4):
        x, y = (points[index] + points[2]) / 2
        assert tuple(image[int(y), int(x)]) == tuple(int(value * 0.6) for value in COLOURS[index])
    assert not image[0].any()


def test_points_outside_the_image_are_left_out() -> None:
    points = np.array([[-40, 20], [30, 20], [20, 40], [10, 60], [500, 60]], dtype=np.float64)
    image = draw_keypoints(points, (81, 63))
    assert (image.shape, image.dtype) == ((81, 63, 3), np.uint8)
    assert not (image == COLOURS[4]).all(axis=2).any()
    assert (image == COLOURS[1]).all(axis=2).any()


@pytest.mark.parametrize("bad", [np.zeros((4, 2)), np.full((5, 2), np.nan)])
def test_five_finite_points_are_expected(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="five finite points"):
        draw_keypoints(bad, (64, 64))
    with pytest.raises(ValueError, match="positive sizes"):
        draw_keypoints(np.ones((5, 2)), (64, 64), KeypointStyle(0, 4))


# --- crop ---


def test_a_crop_has_the_framing_of_head_and_shoulders(pictures: list[np.ndarray], faces: list[Face]) -> None:
    canvas = np.full((1500, 1400, 3), 90, dtype=np.uint8)
    canvas[500:1012, 400:912] = pictures[0]
    x, y, w, h = faces[0].box
    face = replace(faces[0], box=(x + 400, y + 500, w, h), points=faces[0].points + np.float32([400, 500]))
    crop = face_crop(canvas, face, 256)
    assert crop.side == round(MARGIN * max(w, h))
    assert crop.image.shape == (256, 256, 3)
    assert abs(crop.x - 400) < 45
    assert abs(crop.y - 500) < 45
    cx, cy, cw, ch = crop.face(face).box
    assert cx + cw / 2 == pytest.approx(128, abs=8)
    above, below = cy, 256 - cy - ch
    assert 0 < above < below


@settings(deadline=None)
@given(
    st.floats(-200, 900),
    st.floats(-200, 900),
    st.floats(20, 300),
    st.floats(1, 3),
    st.integers(1, 700),
    st.integers(1, 600),
)
def test_a_crop_lies_inside_the_image_wherever_the_face_is_or_covers_it(
    x: float, y: float, unit: float, margin: float, height: int, width: int
) -> None:
    face = face_at(unit=unit, middle=(x, y))
    crop = face_crop(np.zeros((height, width, 3), np.uint8), face, 64, margin)
    for start, room in ((crop.x, width - crop.side), (crop.y, height - crop.side)):
        assert min(0, room) <= start <= max(0, room)
    assert crop.side <= max(height, width, TIGHTEST * max(face.box[2:]) + 1)
    assert crop.image.shape == (64, 64, 3)


@given(
    st.integers(0, 4000), st.integers(0, 4000), st.integers(1, 3000), st.sampled_from([256, 512, 1024]),
    st.lists(st.tuples(st.floats(-100, 5000), st.floats(-100, 5000)), min_size=1, max_size=5),
)  # fmt: skip
def test_points_go_into_the_crop_and_back_unchanged(
    x: int, y: int, side: int, size: int, cloud: list[tuple[float, float]]
) -> None:
    crop = Crop(np.zeros((size, size, 3), np.uint8), x, y, side)
    points = np.array(cloud)
    assert np.allclose(crop.to_image(crop.to_crop(points)), points, atol=1e-6)
    corners = np.array([[x - 0.5, y - 0.5], [x + side - 0.5, y + side - 0.5]])
    assert np.allclose(crop.to_crop(corners), [[-0.5, -0.5], [size - 0.5, size - 0.5]], atol=1e-6)


def test_points_name_the_same_pixels_in_the_crop(pictures: list[np.ndarray], faces: list[Face]) -> None:
    crop = face_crop(pictures[0], faces[0], 1024, 1.2)
    again = Detector().detect(np.asarray(crop.image))[0]
    assert np.abs(again.points - crop.to_crop(faces[0].points)).max() < 0.2 * crop.face(faces[0]).interocular
    marked = np.zeros_like(pictures[0])
    x, y = (int(v) for v in faces[0].points[2])
    marked[y - 2 : y + 3, x - 2 : x + 3] = 255
    rows, columns = np.nonzero(face_crop(marked, faces[0], 1024, 1.2).image[..., 0] > 127)
    wanted = crop.to_crop(np.array([[x, y]]))[0]
    assert np.abs(np.array([columns.mean(), rows.mean()]) - wanted).max() < 0.6


def test_an_unscaled_crop_put_back_gives_the_exact_pixels(pictures: list[np.ndarray], faces: list[Face]) -> None:
    picture = pictures[0]
    crop = face_crop(picture, faces[0], 300, 300 / max(faces[0].box[2:]))
    assert (crop.scale, crop.side) == (1.0, 300)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    patch = patch_of(crop, picture.shape)
    assert np.array_equal(patch.pixels(noise), noise)
    assert np.array_equal(picture[patch.rows, patch.columns], crop.image)


def test_a_square_of_almost_the_wanted_size_is_not_resampled(pictures: list[np.ndarray], faces: list[Face]) -> None:
    crop = face_crop(pictures[0], faces[0], 400, 408 / max(faces[0].box[2:]))
    assert np.array_equal(crop.image, crop.region(pictures[0]))


def test_a_head_on_its_side_has_its_shoulders_in_the_square() -> None:
    canvas = np.zeros((900, 900, 3), np.uint8)
    upright, lying = (face_crop(canvas, face_at(roll=roll, middle=(450, 450)), 256) for roll in (0, 90))
    assert upright.y + upright.side / 2 > 450 + 0.325 * 60
    assert lying.x + lying.side / 2 < 450 - 0.325 * 60


@pytest.mark.parametrize("roll", [-150, -35, 25, 90])
def test_a_tilted_face_stands_upright_in_its_square_and_comes_back_tilted(roll: float) -> None:
    y, x = np.mgrid[:700, :640]
    canvas = np.stack([x % 256, y % 256, (x + y) // 6 % 256], axis=-1).astype(np.uint8)
    canvas = np.asarray(Image.fromarray(canvas).filter(ImageFilter.GaussianBlur(4)))
    face = face_at(10, roll, 60, (330, 350))
    crop = face_crop(canvas, face, 256)
    inner = crop.face(face)
    assert inner.roll == pytest.approx(0, abs=0.5)
    assert inner.yaw == pytest.approx(face.yaw, abs=0.5)
    straight = face_crop(canvas, face_at(10, 0, 60, (330, 350)), 256)
    assert inner.box[2:] == pytest.approx(straight.face(face_at(10, 0, 60, (330, 350))).box[2:], rel=0.02)
    patch = patch_of(crop, canvas.shape)
    inside = patch.mask(np.ones((256, 256), np.float32)) == 1
    back, old = patch.pixels(np.asarray(crop.image)), canvas[patch.rows, patch.columns]
    smooth = inside & (np.abs(np.diff(old.astype(int), axis=0, append=0)).max(axis=2) < 12)
    smooth &= np.abs(np.diff(old.astype(int), axis=1, append=0)).max(axis=2) < 12
    assert smooth.mean() > 0.2
    assert np.abs(back.astype(int) - old)[smooth].mean() < 2
    there = patch.face(inner)
    start = np.array([patch.columns.start, patch.rows.start])
    assert np.abs(there.points + start - face.points).max() < 1e-3
    assert np.array(there.box) == pytest.approx(np.array(face.box) - (*start, 0, 0), abs=2)


def test_a_picture_of_little_more_than_a_face_gets_a_border_that_is_never_put_back(
    pictures: list[np.ndarray], faces: list[Face]
) -> None:
    x, y, w, h = (round(value) for value in faces[0].box)
    tight = np.ascontiguousarray(pictures[0][y : y + h, x : x + w])
    face = replace(faces[0], box=(0.0, 0.0, float(w), float(h)), points=faces[0].points - np.float32([x, y]))
    crop = face_crop(tight, face, 256)
    assert crop.side == round(1.4 * max(w, h))
    patch = patch_of(crop, tight.shape)
    assert (patch.rows, patch.columns) == (slice(0, h), slice(0, w))
    back = patch.pixels(np.asarray(crop.image))
    assert back.shape == tight.shape
    assert np.abs(back.astype(int) - tight).mean() < 4


def test_a_crop_refuses_what_it_cannot_cut() -> None:
    image, face = np.zeros((64, 64, 3), np.uint8), face_at()
    for bad in (np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64), np.uint8)):
        with pytest.raises(ValueError, match="expected an image uint8"):
            face_crop(bad, face, 64)
    with pytest.raises(ValueError, match="margin >= 1"):
        face_crop(image, face, 64, 0.9)
    with pytest.raises(ValueError, match="face box with area"):
        face_crop(image, replace(face, box=(1, 1, 0, 5)), 64)


# --- mask ---


def test_a_mask_covers_eyes_brows_and_mouth_and_ends_at_the_neck(pictures: list[np.ndarray], faces: list[Face]) -> None:
    for picture, face in zip(pictures, faces, strict=True):
        mask = face_mask(face, picture.shape[:2])
        assert (mask.dtype, mask.shape) == (np.float32, (512, 512))
        assert (mask.min(), mask.max()) == (0, 1)
        eyes, mouth = face.points[:2].mean(axis=0), face.points[3:].mean(axis=0)
        brow = eyes - 0.45 * (mouth - eyes)
        for x, y in (*face.points, brow):
            assert mask[int(y), int(x)] > 0.9
        x, y, w, h = face.box
        assert mask[int(y + 0.97 * h)].max() > 0.4
        assert not mask[int(y + 1.15 * h) :].any()
        assert not mask[: max(0, int(y))].any()
        assert 0.5 < mask.sum() / (w * h) < 0.75


@pytest.mark.parametrize("yaw", [-35, -15, 20, 40])
def test_a_turned_head_moves_the_mask_against_its_points(yaw: float) -> None:
    straight, turned = (face_mask(face_at(angle), (300, 300)) for angle in (0, yaw))
    middle = [float((mask * np.arange(300)).sum() / mask.sum()) for mask in (straight, turned)]
    assert middle[0] == pytest.approx(150, abs=0.5)
    assert middle[1] - middle[0] == pytest.approx(-0.70 * 60 * math.sin(math.radians(yaw)), abs=1)


@pytest.mark.parametrize("roll", [-90, -40, 15, 45, 60])
def test_a_tilted_head_has_the_same_mask_tilted(roll: float) -> None:
    upright = Image.fromarray(face_mask(face_at(10, 0, 60, (149.5, 149.5)), (300, 300)))
    tilted = face_mask(face_at(10, roll, 60, (149.5, 149.5)), (300, 300))
    wanted = np.asarray(upright.rotate(-roll, Image.Resampling.BILINEAR))
    assert np.abs(tilted - wanted).mean() < 0.01
    assert np.abs(tilted - wanted).max() < 0.35


def test_dilate_and_feather_are_shares_of_the_face_width() -> None:
    row = 160 + 18  # where the face is widest
    hard = face_mask(face_at(), (400, 300), dilate=0, feather=0)
    assert set(np.unique(hard)) == {0, 1}
    width = hard[row].sum()
    assert face_mask(face_at(), (400, 300), dilate=0.1, feather=0)[row].sum() == pytest.approx(1.2 * width, abs=2)
    soft = face_mask(face_at(), (400, 300), dilate=0, feather=0.2)
    assert np.count_nonzero((soft[row] > 0) & (soft[row] < 1)) == pytest.approx(2 * 0.2 * width, abs=4)
    assert soft[row].sum() == pytest.approx(width, abs=2)
    assert np.abs(np.diff(soft, axis=0)).max() < 0.1
    with pytest.raises(ValueError, match="0 or more"):
        face_mask(face_at(), (400, 300), feather=-0.1)


def test_a_face_without_extent_has_no_mask() -> None:
    with pytest.raises(ValueError, match="face with extent"):
        face_mask(Face((0, 0, 10, 10), np.zeros((5, 2), dtype=np.float32), 0.9), (64, 64))


def test_a_mask_may_reach_beyond_the_image() -> None:
    mask = face_mask(face_at(middle=(0, 40)), (101, 77))
    assert mask.shape == (101, 77)
    assert mask[40, 0] == 1
    assert mask[100, 76] == 0


# --- face parsing ---


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _value(name: str, shape: list[int]) -> bytes:
    dimensions = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, dimensions)))


def _constant(name: str, values: np.ndarray) -> bytes:
    dimensions = b"".join(_field(1, size) for size in values.shape)
    return dimensions + _field(2, 1) + _field(8, name.encode()) + _field(9, values.astype("<f4").tobytes())


def parser_model(path: Path, classes: int = 19, size: int = 512, weights: np.ndarray | None = None) -> Path:
    """A 1 x 1 convolution as ONNX: plane k is weights[k] . (red, green, blue, normalised) + bias.

    The default says skin where the picture is red, hair where it is green and background elsewhere.
    """
    kernel, bias = np.zeros((classes, 3, 1, 1)), np.full(classes, -100.0)
    bias[0] = 0
    if weights is None:
        kernel[1, 0], kernel[17 % classes, 1] = 1, 1
        bias[1] = bias[17 % classes] = 0
    else:
        kernel[:] = weights
    inputs = b"".join(_field(1, name) for name in (b"picture", b"kernel", b"bias"))
    node = inputs + _field(2, b"planes") + _field(4, b"Conv")
    graph = (
        _field(1, node) + _field(2, b"g") + _field(5, _constant("kernel", kernel)) + _field(5, _constant("bias", bias))
    )
    graph += _field(11, _value("picture", [1, 3, size, size])) + _field(12, _value("planes", [1, classes, size, size]))
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))
    return path


def painted(face: Face, shape: tuple[int, int]) -> np.ndarray:
    """Black, with the hair in green around a face in red."""
    image = np.zeros((*shape, 3), np.uint8)
    image[face_mask(face, shape, dilate=0.25, feather=0) > 0] = (0, 255, 0)
    image[face_mask(face, shape, dilate=0, feather=0) > 0] = (255, 0, 0)
    return image


def test_a_face_parsing_model_gives_the_class_of_each_pixel(tmp_path: Path) -> None:
    parser = FaceParser(parser_model(tmp_path / "parser.onnx"))
    image = painted(face_at(), (330, 300))
    classes = parser.parse(image)
    assert (classes.shape, classes.dtype) == ((330, 300), np.uint8)
    names = np.array(FACE_PARSING_CLASSES)[classes]
    for colour, name in (((0, 0, 0), "background"), ((255, 0, 0), "skin"), ((0, 255, 0), "hair")):
        where = (image == colour).all(axis=2)
        assert (names[where] == name).mean() > 0.97


def test_a_parsed_mask_is_the_face_and_not_the_hair(tmp_path: Path) -> None:
    face = face_at()
    image = painted(face, (330, 300))
    classes = FaceParser(parser_model(tmp_path / "parser.onnx")).parse(image)
    hard = parsed_mask(classes, face, dilate=0, feather=0)
    red = (image == (255, 0, 0)).all(axis=2)
    assert (red & (hard > 0)).sum() / (red | (hard > 0)).sum() > 0.97
    soft = parsed_mask(classes, face)
    assert soft.dtype == np.float32
    assert (soft.min(), soft.max()) == (0, 1)
    assert soft.sum() > hard.sum()
    assert np.abs(np.diff(soft, axis=0)).max() < 0.2
    edge = face_mask(face, (330, 300), dilate=0.04 + 0.1, feather=0)
    assert not soft[edge == 0].any()


def test_somebody_elses_skin_is_not_masked() -> None:
    classes = np.zeros((300, 600), np.uint8)
    both = [face_at(middle=(150, 150)), face_at(middle=(430, 150))]
    for face in both:
        classes[face_mask(face, (300, 600), feather=0) > 0] = FACE_PARSING_CLASSES.index("skin")
    mask = parsed_mask(classes, both[0])
    assert mask[150, 150] == 1
    assert not mask[:, 300:].any()


def test_what_counts_as_face_is_named_in_the_table() -> None:
    assert len(FACE_PARSING_CLASSES) == 19
    assert set(FACE_PARSING_CLASSES) >= FACE_CLASSES
    assert not {"hair", "neck", "hat", "cloth", "left ear", "background"} & FACE_CLASSES
    assert [FACE_PARSING_CLASSES.index(name) for name in ("skin", "nose", "hair")] == [1, 10, 17]


def test_a_model_of_another_layout_is_refused_with_both_layouts(tmp_path: Path) -> None:
    expected = r"expected one input float32 \[1, 3, 512, 512\] and a first output \[1, 19, 512, 512\]"
    with pytest.raises(BadModelError, match=rf"first output shape \[1, 11, 512, 512\]; {expected}"):
        FaceParser(parser_model(tmp_path / "eleven.onnx", classes=11))
    with pytest.raises(BadModelError, match=r"input shape \[1, 3, 448, 448\]"):
        FaceParser(parser_model(tmp_path / "small.onnx", size=448))
    with pytest.raises(BadModelError, match="found a first output float32"):
        FaceParser(parser_model(tmp_path / "nan.onnx", weights=np.full((19, 3, 1, 1), np.nan)))
    page = tmp_path / "page.onnx"
    page.write_text("<html>404</html>")
    with pytest.raises(BadModelError, match="onnxruntime cannot load"):
        FaceParser(page)
    with pytest.raises(NotFoundError, match="does not exist"):
        FaceParser(tmp_path / "none.onnx")


def test_a_class_map_without_a_face_is_said() -> None:
    with pytest.raises(BadImageError, match="marks no face"):
        parsed_mask(np.full((300, 300), 17, np.uint8), face_at())
    with pytest.raises(ValueError, match="below 19"):
        parsed_mask(np.full((300, 300), 19, np.uint8), face_at())


# --- colour ---

# Sharma, Wu, Dalal 2005, table 1: pairs 1, 3, 4, 7, 9, 10, 11, 13, 15, 16, 17, 18, 20, 24, 25, 29, 31, 34.
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 2.8361, -74.02), (50.0, 0.0, -82.7485), 3.4412),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0009), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.001), 7.1792),
    ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
    ((50.0, -0.001, 2.49), (50.0, 0.0009, -2.49), 4.8045),
    ((50.0, -0.001, 2.49), (50.0, 0.0011, -2.49), 4.7461),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (61.0, -5.0, 29.0), 22.8977),
    ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
    ((50.0, 2.5, 0.0), (50.0, 3.2592, 0.335), 1.0),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.441), (91.1528, -1.6435, 0.0447), 1.4441),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
]


def test_ciede2000_gives_the_published_differences_in_both_directions() -> None:
    first, second, wanted = (np.array(column) for column in zip(*SHARMA, strict=True))
    assert np.allclose(ciede2000(first, second), wanted, atol=6e-5)
    assert np.allclose(ciede2000(second, first), wanted, atol=6e-5)
    assert not ciede2000(first, first).any()


def test_lab_has_its_published_values_and_comes_back() -> None:
    known = np.array([[255, 255, 255], [255, 0, 0], [0, 0, 255], [0, 0, 0], [119, 119, 119]], np.uint8)
    lab = [[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [0, 0, 0], [50.03, 0, 0]]
    assert np.allclose(to_lab(known), lab, atol=0.02)
    colours = np.random.default_rng(0).integers(0, 256, (400, 3), dtype=np.uint8)
    assert np.abs(from_lab(to_lab(colours)) - colours).max() < 1e-6


# --- blend ---


def test_a_new_face_in_other_colours_takes_those_of_its_surroundings(
    pictures: list[np.ndarray], faces: list[Face]
) -> None:
    for picture, face in list(zip(pictures, faces, strict=True))[:10:4]:
        mask = face_mask(face, picture.shape[:2])
        new = shifted(picture, VISIBLE)
        plain = seam(picture, composite(picture, new, mask), mask)
        blended = blend(picture, Insertion(new, mask, face, seed=1))
        assert plain.severity > SEAM_LIMIT > 4 * blended.seam.severity
        assert plain.p95 > 4 * blended.seam.p95
        inside = mask == 1
        error = ciede2000(to_lab(blended.image[inside]), to_lab(picture[inside]))
        assert np.median(error) < 2.5 < np.median(ciede2000(to_lab(new[inside]), to_lab(picture[inside])))


@settings(deadline=None)
@given(st.integers(3, 90), st.integers(3, 90), st.integers(0, 2**31))
def test_no_pixel_outside_the_mask_changes(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    source, new = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    face = face_at(unit=16, middle=(width / 2, height / 2))
    mask = face_mask(face, (height, width))
    blended = blend(source, Insertion(new, mask, face, seed))
    assert np.array_equal(blended.image[mask == 0], source[mask == 0])
    assert blended.image.dtype == np.uint8
    assert np.isfinite([blended.seam.mean, blended.seam.p95]).all()


def test_a_crop_put_back_changes_nothing_outside_its_mask(pictures: list[np.ndarray], faces: list[Face]) -> None:
    picture = np.asarray(Image.fromarray(pictures[4]).crop((0, 0, 501, 509)))
    for size in (256, 700):
        crop = face_crop(picture, faces[4], size)
        inner = crop.face(faces[4])
        mask = face_mask(inner, (size, size))
        before = picture.copy()
        result = insert(picture, crop, Insertion(shifted(crop.image, VISIBLE), mask, inner, seed=3))
        assert isinstance(result, Blend)
        changed = (result.image != picture).any(axis=2)
        allowed = face_mask(faces[4], picture.shape[:2], dilate=0.12, feather=0)
        assert 0.5 * allowed.sum() < changed.sum()
        assert not changed[allowed == 0].any()
        assert result.seam.severity < SEAM_LIMIT / 2
        assert np.array_equal(picture, before)
    with pytest.raises(ValueError, match="expected pixels and mask of 700 px"):
        insert(picture, crop, Insertion(crop.image, mask[:-1], inner, seed=3))


def test_the_same_picture_blended_in_is_the_same_picture(pictures: list[np.ndarray], faces: list[Face]) -> None:
    mask = face_mask(faces[0], (512, 512))
    blended = blend(pictures[0], Insertion(pictures[0], mask, faces[0], seed=0))
    difference = np.abs(blended.image.astype(int) - pictures[0])
    assert difference.mean() < 0.5
    assert blended.seam.p95 < 0.2
    assert np.abs(match_colour(pictures[0], pictures[0], ring_of(mask)) - pictures[0]).max() < 1e-6


def test_a_mask_that_is_one_takes_the_new_pixels_and_one_of_zero_none(
    pictures: list[np.ndarray], faces: list[Face]
) -> None:
    one = np.ones((512, 512), np.float32)
    assert np.array_equal(composite(pictures[0], pictures[1], one), pictures[1])
    assert np.array_equal(composite(pictures[0], pictures[1], 0 * one), pictures[0])
    assert np.array_equal(blend(pictures[0], Insertion(pictures[1], 0 * one, faces[0], 1)).image, pictures[0])
    whole = in_bands(pictures[0], pictures[1], one, 100.0)
    assert np.abs(whole - pictures[1]).max() < 1e-9
    assert not (in_bands(pictures[0], pictures[1], 0 * one, 100.0) - pictures[0]).any()


def smooth(height: int, width: int) -> np.ndarray:
    """Soft light from one side: a picture without any grain, float64 [h, w]."""
    return 90 + 70 * np.linspace(0, 1, width)[np.newaxis] * np.linspace(0.5, 1, height)[:, np.newaxis]


def noisy(clean: np.ndarray, noise: np.ndarray) -> np.ndarray:
    grey = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


@pytest.mark.parametrize("sigma", [2.0, 4.0, 9.0])
@pytest.mark.parametrize("present", [0.0, 1.5])
def test_the_new_face_gets_the_grain_of_its_surroundings(sigma: float, present: float) -> None:
    random = np.random.default_rng(5)
    clean = smooth(401, 303)
    source = noisy(clean, sigma * random.standard_normal(clean.shape))
    new = noisy(clean, present * random.standard_normal(clean.shape))
    mask = face_mask(face_at(), clean.shape)
    image = blend(source, Insertion(new, mask, face_at(), seed=7)).image[..., 0]
    inside = mask == 1
    assert float((image - clean)[inside].std()) == pytest.approx(
        float((source[..., 0] - clean)[~inside].std()), rel=0.15
    )


def test_the_grain_of_an_enlarged_picture_is_coarse_too() -> None:
    random = np.random.default_rng(5)
    clean = smooth(400, 304)
    fine = Image.fromarray((9 * random.standard_normal((200, 152))).astype(np.float32))
    source = noisy(clean, np.asarray(fine.resize((304, 400), Image.Resampling.BICUBIC)))
    mask = face_mask(face_at(), clean.shape)
    image = blend(source, Insertion(noisy(clean, 0 * clean), mask, face_at(), seed=7)).image
    for octave in (0, 1):
        levels = [grain_level(image[..., 0] - clean, where, octave) for where in (mask == 1, mask == 0)]
        assert levels[0] == pytest.approx(levels[1], rel=0.15)


def test_grain_is_added_only_where_it_is_missing_and_follows_the_seed(
    pictures: list[np.ndarray], faces: list[Face]
) -> None:
    mask = face_mask(faces[0], (512, 512))
    random = np.random.default_rng(1)
    loud = np.clip(pictures[0] + 8 * random.standard_normal((512, 512, 1)), 0, 255).astype(np.uint8)
    assert not grain(pictures[0], loud, mask, 1).any()
    missing = grain(loud, pictures[0], mask, 1)
    assert missing.std() == pytest.approx(8, rel=0.15)
    assert np.array_equal(missing, grain(loud, pictures[0], mask, 1))
    assert not np.array_equal(missing, grain(loud, pictures[0], mask, 2))


def test_a_level_of_grain_does_not_see_edges() -> None:
    random = np.random.default_rng(2)
    everywhere = np.ones((200, 210), dtype=np.bool_)
    stripes = np.where(np.arange(210) // 15 % 2 == 0, 40.0, 200.0) * np.ones((200, 1))
    assert grain_level(stripes, everywhere) < 0.1
    assert grain_level(stripes + 5 * random.standard_normal(stripes.shape), everywhere) == pytest.approx(5, rel=0.1)
    assert grain_level(5 * random.standard_normal((200, 210)), everywhere, 1) == pytest.approx(2.5, rel=0.1)
    assert grain_level(stripes, np.zeros_like(everywhere)) == 0
    hair = np.where(np.arange(210) < 95, 1.0, 0.0) * 40 * random.standard_normal((200, 210))
    assert grain_level(hair + 5 * random.standard_normal(hair.shape), everywhere) == pytest.approx(5, rel=0.2)


@pytest.mark.parametrize("step", [3.0, 6.0, 12.0])
def test_the_seam_is_the_step_that_the_edge_adds(step: float) -> None:
    source = np.full((300, 300, 3), 128, np.uint8)
    mask = face_mask(face_at(), (300, 300))
    new = np.clip(np.rint(from_lab(to_lab(source) + np.array([step, 0, 0]))), 0, 255).astype(np.uint8)
    wanted = float(ciede2000(to_lab(new[:1, :1]), to_lab(source[:1, :1]))[0, 0])
    found = seam(source, composite(source, new, mask), mask)
    assert found.mean == pytest.approx(wanted, rel=0.03)
    assert found.p95 == pytest.approx(wanted, rel=0.03)


def test_an_edge_that_was_there_before_is_no_seam() -> None:
    mask = face_mask(face_at(), (300, 300))
    source = np.full((300, 300, 3), 128, np.uint8)
    source[:, 150:] = np.where(mask[:, 150:, np.newaxis] >= 0.5, np.uint8(128), np.uint8(30))
    hidden, plain = source.copy(), source.copy()
    hidden[:, 150:] = np.where(mask[:, 150:, np.newaxis] >= 0.5, np.uint8(170), np.uint8(30))
    plain[:, :150] = np.where(mask[:, :150, np.newaxis] >= 0.5, np.uint8(170), np.uint8(128))
    assert seam(source, source, mask) == Seam(0, 0)
    assert seam(source, hidden, mask).mean < 1
    assert seam(source, plain, mask).mean > SEAM_LIMIT
    everywhere = np.full_like(source, 30)
    everywhere[mask >= 0.5] = 200
    assert seam(everywhere, np.where(everywhere == 200, np.uint8(150), everywhere), mask) == Seam(0, 0)


def test_hair_cut_off_at_the_mask_shows_in_the_upper_percentile() -> None:
    source = np.full((300, 300, 3), 128, np.uint8)
    mask = face_mask(face_at(), (300, 300))
    new = source.copy()
    new[:, 175:200] = 20
    found = seam(source, composite(source, new, mask), mask)
    assert found.mean < 1
    assert found.p95 > 20
    assert found.severity == found.p95 / 5


def test_the_colour_of_the_new_face_itself_does_not_count_in_the_match() -> None:
    source = np.random.default_rng(3).integers(60, 200, (300, 300, 3), dtype=np.uint8)
    mask = face_mask(face_at(), (300, 300))
    new = source.copy()
    new[mask > 0] = (250, 120, 90)
    assert np.abs(match_colour(source, new, ring_of(mask)) - new).max() < 1e-6


@pytest.mark.parametrize(
    ("source", "new", "mask", "message"),
    [
        (np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.float32), "uint8"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 8, 3), np.uint8), np.zeros((9, 9), np.float32), "equal sizes"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8), np.full((9, 9), 2, np.float32), "from 0 to 1"),
    ],
)
def test_a_blend_refuses_what_does_not_fit(source: np.ndarray, new: np.ndarray, mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blend(source, Insertion(new, mask, face_at(), 0))


def test_nothing_but_numpy_and_pillow_is_imported() -> None:
    code = (
        "import sys\n"
        "from sosie.faces import blend, choose, colour, crop, grain, keypoints, mask, match, skin, tone\n"
        "print([name for name in ('torch', 'cv2', 'onnxruntime', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# --- choice ---


def test_the_only_face_is_the_characters_however_unlike() -> None:
    assert choose_face([face_at()], [0.1]).index == 0


def test_the_most_similar_of_several_faces_is_chosen() -> None:
    choice = choose_face([face_at(), face_at(unit=40), face_at()], [0.3, 0.7, 0.5])
    assert (choice.index, choice.problem, choice.reason) == (1, None, "")


def test_without_a_face_there_is_nothing_to_choose() -> None:
    choice = choose_face([], [])
    assert (choice.index, choice.problem) == (None, "no face")
    with pytest.raises(ValueError, match="one similarity for each face"):
        choose_face([face_at()], [])


def test_a_face_that_is_too_small_or_turned_is_said_with_its_figures() -> None:
    small = choose_face([face_at(unit=10)], [0.9])
    assert (small.index, small.problem) == (None, "too small")
    assert "9 px apart; expected at least 12 px" in small.reason
    turned = choose_face([face_at(yaw=60)], [0.9])
    assert (turned.index, turned.problem) == (None, "turned")
    assert "turned by 60 degrees; expected at most 50" in turned.reason
    assert choose_face([face_at(yaw=60)], [0.9], max_yaw=70).index == 0
    assert choose_face([face_at(unit=10)], [0.9], min_interocular=8).index == 0


def test_two_faces_that_are_equally_similar_are_ambiguous() -> None:
    choice = choose_face([face_at(), face_at(), face_at()], [0.50, 0.20, 0.53])
    assert (choice.index, choice.problem) == (None, "ambiguous")
    assert "0.53 and 0.50" in choice.reason
    assert choose_face([face_at(), face_at()], [0.50, 0.53], min_lead=0.02).index == 1


def test_a_face_too_small_to_be_recognised_does_not_compete_but_may_be_the_character() -> None:
    near, far = face_at(), face_at(unit=10)
    assert choose_face([near, far], [0.50, 0.52]).index == 0
    choice = choose_face([near, far], [0.30, 0.75])
    assert (choice.index, choice.problem) == (None, "too small")


def test_a_turned_character_is_not_mistaken_for_the_one_beside() -> None:
    assert choose_face([face_at(), face_at(yaw=60)], [0.3, 0.6]).problem == "turned"
    assert choose_face([face_at(), face_at(yaw=60)], [0.6, 0.3]).index == 0
