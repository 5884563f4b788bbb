"""Faces that lie, stand on their head, or are small in a large picture: found, and measured as upright and alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from sosie.faces.detect import Detector, Face
from sosie.faces.encoders import SFace, similarity
from sosie.faces.picture import Picture
from sosie.faces.references import check_references
from sosie.files.images import read_image

EXAMPLES = sorted((ROOT / "examples" / "mira").glob("*.jpg"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def encoder() -> SFace:
    return SFace()


def in_a_room(picture: Image.Image, side: int, x: int, y: int) -> np.ndarray:
    """The picture, pixel for pixel, in a larger one of a soft gradient."""
    room = np.empty((side, side, 3), np.uint8)
    room[:] = np.linspace(70, 190, side, dtype=np.uint8)[:, None, None]
    room[y : y + picture.height, x : x + picture.width] = np.asarray(picture)
    return room


@pytest.mark.parametrize("degrees", [60, 90, 135, 180, 270])
def test_a_face_is_found_upright_however_its_picture_lies(degrees: int, detector: Detector, encoder: SFace) -> None:
    upright = read_image(EXAMPLES[2])
    (straight,) = detector.detect(np.asarray(upright))
    wanted = encoder.embed(np.asarray(upright), straight)
    turned = np.asarray(upright.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=(120, 120, 120)))
    (face,) = detector.detect(turned)
    assert abs((face.roll + degrees + 180) % 360 - 180) < 12
    assert similarity("cosine", wanted, encoder.embed(turned, face)) > 0.85


def test_the_points_of_an_upright_picture_are_near_those_of_one_look(detector: Detector) -> None:
    for path in EXAMPLES:
        pixels = np.asarray(read_image(path))
        (face,) = detector.detect(pixels)
        assert abs(face.roll) < 20
        (seen,) = detector._at(Picture(pixels), max(pixels.shape[:2]))
        assert seen.box == face.box
        assert 0 < np.abs(seen.points - face.points).max() < 0.25 * face.interocular


@pytest.mark.parametrize(("side", "room"), [(128, 600), (128, 1536), (192, 3072), (300, 640), (512, 2048)])
def test_a_small_portrait_in_a_large_picture_is_judged_as_alone(
    side: int, room: int, detector: Detector, encoder: SFace
) -> None:
    reference = np.asarray(read_image(EXAMPLES[5]))
    template = encoder.embed(reference, detector.detect(reference)[0])
    portrait = read_image(EXAMPLES[2]).resize((side, side), Image.Resampling.LANCZOS)
    alone = np.asarray(portrait)
    large = in_a_room(portrait, room, room // 2 + 7, room // 3)
    values = [
        similarity("cosine", template, encoder.embed(pixels, detector.detect(pixels)[0])) for pixels in (alone, large)
    ]
    assert abs(values[0] - values[1]) <= 0.02


def test_the_points_do_not_depend_on_where_the_first_look_put_them(detector: Detector) -> None:
    pixels = np.asarray(read_image(EXAMPLES[2]))
    (face,) = detector.detect(pixels)
    for off in (-4.0, 5.0):
        moved = replace(face, points=face.points + np.float32(off))
        assert np.abs(detector._steadied(Picture(pixels), moved).points - face.points).max() < 0.05 * face.interocular


def test_faces_at_the_border_of_two_tiles_are_found_once(detector: Detector) -> None:
    portrait = read_image(EXAMPLES[2]).resize((160, 160), Image.Resampling.LANCZOS)
    for x in (890, 930, 970):
        assert len(detector.detect(in_a_room(portrait, 2048, x, 905))) == 1


def test_a_picture_without_a_face_shows_none_at_any_size(detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1400, 1400, 3), dtype=np.uint8)
    assert detector.detect(noise) == ()
    assert detector.detect(in_a_room(Image.new("RGB", (9, 9)), 1400, 0, 0)) == ()


def test_a_face_goes_where_a_turned_picture_goes() -> None:
    points = np.array([[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]], np.float32)
    face = Face((5, 10, 30, 40), points, 0.9)
    turned = face.under(np.array([[0, 1, 0], [-1, 0, 99]], np.float64))
    assert turned.box == (10, 64, 40, 30)
    assert turned.points[0].tolist() == [20, 89]
    assert (face.roll, turned.roll) == (0, -90)
    assert face.moved(100, 7).box == (105, 17, 30, 40)


def test_a_reference_that_lies_on_its_side_is_left_out_with_how_it_is_turned(
    detector: Detector, encoder: SFace, tmp_path: Path
) -> None:
    lying = tmp_path / "a.png"
    read_image(EXAMPLES[0]).transpose(Image.Transpose.ROTATE_90).save(lying)
    report = check_references([*EXAMPLES[1:5], lying], detector, encoder)
    (left,) = report.left_out
    assert left.path == lying
    assert left.finding.code == "SOS-C011"
    assert "counter-clockwise" in left.finding.message
