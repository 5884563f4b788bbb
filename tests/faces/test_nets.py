"""The nets under onnxruntime give what the libraries give that they come from; one image is made smaller once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from places import ROOT

from sosie.core.errors import BadModelError
from sosie.faces.align import ARCFACE_TEMPLATE, CROP, warp
from sosie.faces.detect import Detector, Face
from sosie.faces.encoders import DlibResNet, SFace
from sosie.faces.nets.dlib_resnet import dlib_onnx
from sosie.faces.nets.yunet import YuNet
from sosie.faces.picture import Picture
from sosie.faces.weights import DLIB_RESNET, YUNET
from sosie.files.images import read_image
from sosie.scorers.sample import Sample

EXAMPLES = sorted((ROOT / "examples" / "mira").glob("0[0-3].jpg"))


def pictures() -> list[np.ndarray]:
    return [np.array(read_image(path)) for path in EXAMPLES]


def test_dlibs_net_gives_dlibs_numbers_without_dlib() -> None:
    dlib: Any = pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    theirs: Any = dlib.face_recognition_model_v1(str(DLIB_RESNET.path()))
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    chips = [noise, *(np.ascontiguousarray(picture[60:210, 180:330]) for picture in pictures())]
    ours = DlibResNet().embed_chips(chips)
    assert (ours.shape, ours.dtype) == ((5, 128), np.float32)
    for chip, vector in zip(chips, ours, strict=True):
        assert np.abs(vector - np.array(theirs.compute_face_descriptor(chip))).max() < 1e-5


@pytest.mark.parametrize("layer", [b"\x01\x07affine_", b"\x01\x04fc_2"])
def test_a_file_of_other_layers_is_no_dlib_net(layer: bytes) -> None:
    pytest.importorskip("face_recognition_models")
    content = DLIB_RESNET.read().replace(layer, b"\x01\x05other"[: len(layer)])
    with pytest.raises(BadModelError, match=r"found the layer|StopIteration"):
        dlib_onnx(content)


@pytest.mark.parametrize("size", [(512, 512), (224, 224), (320, 211), (97, 64)])
def test_yunet_finds_what_opencvs_detector_finds(size: tuple[int, int]) -> None:
    weights = np.frombuffer(YUNET.read(), np.uint8)
    theirs: Any = cv2.FaceDetectorYN.create("onnx", weights, np.zeros(0, np.uint8), size, 0.6, 0.3, 50)
    shown = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures()[:2]]
    pair = [np.hstack([shown[0], shown[1]])[:, : size[0]], shown[1]]
    for picture, rows in zip(pair, YuNet(0.6, 0.3).look(pair), strict=True):
        found = theirs.detect(np.ascontiguousarray(picture[:, :, ::-1]))[1]
        assert len(found) == len(rows) == 1
        assert np.abs(found - rows).max() < 1e-3


def test_a_halved_picture_has_the_mean_of_every_two_by_two_pixels() -> None:
    pixels = np.zeros((5, 4, 3), np.uint8)
    pixels[0, 0], pixels[2:4, 2:4] = 200, 80
    picture = Picture(pixels)
    assert picture.halved(1)[:, :, 0].tolist() == [[50, 0], [0, 80]]
    assert picture.halved(1) is picture.halved(1)
    assert picture.halved(9).shape == (1, 1, 3)
    part = picture.part(2, 2, 9, 9, 1)
    assert (part.pixels[:, :, 0].tolist(), part.scale) == ([[80]], 2)
    assert (part.to_picture @ [0, 0, 1]).tolist() == [2.5, 2.5]


def test_a_large_picture_is_looked_at_as_a_small_one_is() -> None:
    small = pictures()[0]
    large = cv2.resize(small, (3072, 3072), interpolation=cv2.INTER_CUBIC)
    detector = Detector()
    (face,), (again,) = detector.detect(small), detector.detect(Picture(large))
    assert np.abs(again.points - ((face.points + 0.5) * 6 - 0.5)).max() < 0.03 * again.interocular
    assert float(SFace().embed(small, face) @ SFace().embed(large, again)) > 0.98
    matrix = np.array([[0.13, 0, 4.0], [0, 0.13, -3.0]])
    assert np.array_equal(warp(large, matrix, 224), warp(Picture(large), matrix, 224))


def test_a_face_is_embedded_once_by_each_encoder() -> None:
    class Counting:
        name, sha256, metric = "counting", "1" * 64, "cosine"

        def __init__(self) -> None:
            self.seen: list[object] = []

        def embed(self, image: object, face: Face) -> np.ndarray:
            self.seen.append(image)
            return face.points[0]

    face = Face((10, 10, 90, 90), (ARCFACE_TEMPLATE * (90 / CROP) + 10).astype(np.float32), 0.9)
    sample = Sample(np.zeros((128, 128, 3), np.uint8), (face,))
    encoder: Any = Counting()
    first, second = (sample.embedding(encoder) for _ in range(2))
    assert first is second
    assert encoder.seen == [sample.picture]
    with pytest.raises(ValueError, match="without a face"):
        replace(sample, faces=()).embedding(encoder)
