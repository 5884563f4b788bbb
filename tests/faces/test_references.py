"""The check of reference images, on the renders of the example character and on what people offer by mistake."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from places import ROOT

from sosie.core.errors import BadImageError
from sosie.core.finding import has_errors
from sosie.faces.align import ARCFACE_TEMPLATE, align
from sosie.faces.detect import Detector, Face, Image8
from sosie.faces.encoders import SFace, Vector, unit
from sosie.faces.references import (
    ReferenceReport,
    _outliers,
    check_references,
    face_crops,
    identity_embedding,
    medoid_distances,
    raw_identity_embedding,
    sharpness,
)
from sosie.files.images import read_image

pytestmark = pytest.mark.once

EXAMPLES = sorted((ROOT / "examples" / "mira").glob("*.jpg"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def sface() -> SFace:
    return SFace()


def codes(report: ReferenceReport) -> dict[str, str]:
    """Name of the file -> code, for the images left out."""
    return {item.path.name: item.finding.code for item in report.left_out}


def saved(folder: Path, name: str, image: Image.Image, **options: int) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def test_the_twelve_references_are_all_good(detector: Detector, sface: SFace) -> None:
    report = check_references(EXAMPLES, detector, sface)
    assert report.kept == tuple(EXAMPLES)
    assert report.findings == ()


def test_renders_of_256_pixels_are_good_references_too(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    small = [saved(tmp_path, f"{path.stem}.png", read_image(path).resize((256, 256))) for path in EXAMPLES]
    assert check_references(small, detector, sface).kept == tuple(small)


def test_each_bad_image_is_left_out_for_its_own_reason(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    portrait = read_image(EXAMPLES[7])
    pair = Image.new("RGB", (1024, 512))
    pair.paste(portrait, (0, 0))
    pair.paste(read_image(EXAMPLES[8]), (512, 0))
    far = Image.new("RGB", (600, 600), (90, 120, 90))
    far.paste(portrait.resize((100, 100)), (250, 250))
    text = tmp_path / "text.png"
    text.write_text("not an image")
    stranger = Image.fromarray(np.asarray(read_image(EXAMPLES[0]))[:, :, ::-1].copy()).resize((307, 512))
    bad = [
        text,
        tmp_path / "missing.png",
        saved(tmp_path, "wall.png", Image.new("RGB", (512, 512), (120, 80, 60))),
        saved(tmp_path, "pair.png", pair),
        saved(tmp_path, "far.png", far),
        saved(tmp_path, "soft.png", read_image(EXAMPLES[9]).filter(ImageFilter.GaussianBlur(6))),
        Path(shutil.copy(EXAMPLES[0], tmp_path / "copy.jpg")),
        saved(tmp_path, "resaved.jpg", read_image(EXAMPLES[1]).resize((400, 400)), quality=40),
        saved(tmp_path, "stranger.png", stranger),
    ]
    good = EXAMPLES[:7]
    report = check_references([*good, *bad], detector, sface)
    assert report.kept == tuple(good)
    assert codes(report) == {
        "text.png": "SOS-C001",
        "missing.png": "SOS-C001",
        "wall.png": "SOS-C002",
        "pair.png": "SOS-C003",
        "far.png": "SOS-C004",
        "soft.png": "SOS-C005",
        "copy.jpg": "SOS-C006",
        "resaved.jpg": "SOS-C006",
        "stranger.png": "SOS-C007",
    }
    messages = {item.path.name: item.finding.message for item in report.left_out}
    assert f"same file as {EXAMPLES[0]}" in messages["copy.jpg"]
    assert f"same picture as {EXAMPLES[1]}" in messages["resaved.jpg"]
    for item in report.left_out:
        assert item.finding.severity == "warning"
        assert item.finding.subject == str(item.path)
        assert str(item.path) in item.finding.message
        assert "expected" in item.finding.message
        assert item.finding.hint


def test_a_stranger_offered_first_is_the_one_left_out(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    pixels = np.asarray(read_image(EXAMPLES[0]))[:, :, ::-1].copy()
    stranger = saved(tmp_path, "stranger.png", Image.fromarray(pixels).resize((307, 512)))
    assert codes(check_references([stranger, *EXAMPLES[:4]], detector, sface)) == {"stranger.png": "SOS-C007"}


def test_a_small_face_far_behind_is_no_second_person(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    wide = Image.new("RGB", (640, 512), (60, 60, 70))
    wide.paste(read_image(EXAMPLES[0]), (0, 0))
    wide.paste(read_image(EXAMPLES[1]).resize((90, 90)), (530, 20))
    path = saved(tmp_path, "street.png", wide)
    assert len(detector.detect(np.asarray(wide))) == 2
    assert path in check_references([path, *EXAMPLES[2:5]], detector, sface).kept


def test_the_same_framing_with_another_mouth_is_no_duplicate(tmp_path: Path, detector: Detector, sface: SFace) -> None:
    image = read_image(EXAMPLES[0])
    face = detector.detect(np.asarray(image))[0]
    left, top = (int(v) for v in face.points[3] - (12, 24))
    right, bottom = (int(v) for v in face.points[4] + (12, 24))
    mouth = image.crop((left, top, right, bottom))
    opened = image.copy()
    opened.paste(mouth.resize((mouth.width, mouth.height * 2)).crop((0, mouth.height // 2, *mouth.size)), (left, top))
    opened.paste((60, 15, 15), (left + 25, top + 20, right - 25, bottom - 16))
    path = saved(tmp_path, "talking.png", opened)
    assert path in check_references([*EXAMPLES[:4], path], detector, sface).kept


def test_dim_light_is_not_taken_for_blur(detector: Detector) -> None:
    pixels = np.asarray(read_image(EXAMPLES[0]))
    points = detector.detect(pixels)[0].points
    dim = sharpness(align((pixels * 0.4).astype(np.uint8), points))
    assert dim == pytest.approx(sharpness(align(pixels, points)), rel=0.1)
    assert sharpness(np.full((112, 112, 3), 99, np.uint8)) == 0


def test_fewer_than_three_good_references_are_a_warning_and_none_is_an_error(
    tmp_path: Path, detector: Detector, sface: SFace
) -> None:
    few = check_references(EXAMPLES[:2], detector, sface)
    assert [(f.code, f.severity) for f in few.findings] == [("SOS-C008", "warning")]
    assert few.kept == tuple(EXAMPLES[:2])
    none = check_references([tmp_path / "missing.png"], detector, sface)
    assert [(f.code, f.severity) for f in none.findings] == [("SOS-C001", "warning"), ("SOS-C008", "error")]
    assert has_errors(none.findings)
    assert has_errors(check_references([], detector, sface).findings)


def test_an_encoder_that_measures_distances_is_refused(detector: Detector) -> None:
    class Distances(SFace):
        metric = "euclidean"

    with pytest.raises(ValueError, match="compares by cosine"):
        check_references(EXAMPLES[:1], detector, Distances())


@given(st.integers(3, 12), st.integers(0, 10**6))
def test_vectors_that_agree_hold_no_outlier_and_an_opposite_one_is_found(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=64)
    own: list[Vector] = [unit((centre + rng.normal(size=64) * 0.2).astype(np.float32)) for _ in range(count)]
    assert _outliers(own) == []
    place = int(rng.integers(count + 1))
    ((found, ratio),) = _outliers([*own[:place], unit((-centre).astype(np.float32)), *own[place:]])
    assert found == place
    assert ratio < 0


def test_the_guide_is_the_mean_of_the_most_frontal_faces(detector: Detector, sface: SFace) -> None:
    images = [read_image(path) for path in EXAMPLES]
    guide = identity_embedding(images, detector, sface, 4)
    assert (guide.shape, guide.dtype) == ((128,), np.float32)
    assert np.linalg.norm(guide) == pytest.approx(1, abs=1e-5)
    pixels = [np.asarray(image) for image in images]
    faces = [detector.detect(picture)[0] for picture in pixels]
    frontal = sorted(range(12), key=lambda i: abs(faces[i].yaw))[:4]
    assert set(frontal) == {0, 5, 6, 11}
    expected = unit(np.sum([sface.embed(pixels[i], faces[i]) for i in frontal], axis=0))
    assert np.allclose(guide, expected, atol=1e-5)


def test_the_guide_takes_what_there_is_and_fails_without_a_face(detector: Detector, sface: SFace) -> None:
    empty = np.zeros((256, 256, 3), dtype=np.uint8)
    one = identity_embedding([empty, read_image(EXAMPLES[0])], detector, sface, 5)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    with pytest.raises(BadImageError, match="none of the 2 references shows a face"):
        identity_embedding([empty, empty], detector, sface, 5)
    with pytest.raises(ValueError, match="count >= 1"):
        identity_embedding([empty], detector, sface, 0)


class Raw:
    """An encoder that looks up a face's raw embedding by its picture's first pixel."""

    def __init__(self, vectors: Sequence[Vector]) -> None:
        self._vectors = vectors

    def embed(self, image: Image8, face: Face, *, normalise: bool = True) -> Vector:
        raw = self._vectors[int(image[0, 0, 0])]
        return unit(raw) if normalise else raw


class Frontal:
    """A detector that finds one face, turned by a nose that is moved by the second pixel's value."""

    def detect(self, image: Image8) -> tuple[Face, ...]:
        moved = float(image[0, 1, 0]) / 10
        points = np.array([[38, 52], [74, 52], [56 + moved, 72], [42, 92], [71, 92]], dtype=np.float32)
        return (Face((20, 20, 72, 90), points, 0.9),)


def pictures(turns: Sequence[float], blurred: Sequence[int] = ()) -> list[Image8]:
    """One picture a turn, of noise, which is sharp, or of a smooth slope."""
    rng = np.random.default_rng(1)
    made: list[Image8] = []
    for place, turn in enumerate(turns):
        pixels = rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)
        if place in blurred:
            pixels[:] = np.linspace(0, 255, 112, dtype=np.uint8)[:, None, None]
        pixels[0, 0], pixels[0, 1] = place, int(turn)
        made.append(pixels)
    return made


def around(centre: Vector, count: int, spread: float, seed: int = 0) -> list[Vector]:
    rng = np.random.default_rng(seed)
    return [(centre + rng.normal(size=len(centre)) * spread).astype(np.float32) for _ in range(count)]


CENTRE = np.random.default_rng(5).normal(size=64).astype(np.float32)


def test_instantids_embedding_has_the_mean_direction_and_the_usual_norm() -> None:
    vectors = [vector * factor for vector, factor in zip(around(CENTRE, 5, 0.4), (1, 2, 3, 2, 2), strict=True)]
    images = pictures([0] * 5)
    found = raw_identity_embedding(images, Frontal(), Raw(vectors), 5)  # type: ignore[arg-type]
    norms = [np.linalg.norm(vector) for vector in vectors]
    assert np.linalg.norm(found) == pytest.approx(np.mean(norms), rel=1e-5)
    assert np.allclose(unit(found), unit(np.mean([unit(vector) for vector in vectors], axis=0)), atol=1e-6)
    assert np.linalg.norm(np.mean(vectors, axis=0)) < 0.95 * np.mean(norms), "a plain mean is shorter"
    assert found.dtype == np.float32
    assert np.allclose(identity_embedding(images, Frontal(), Raw(vectors), 5), unit(found), atol=1e-6)  # type: ignore[arg-type]


@given(st.integers(4, 12), st.integers(0, 10**6))
def test_a_stranger_among_the_references_does_not_guide(count: int, seed: int) -> None:
    own = around(CENTRE, count, 0.3, seed)
    place = seed % (count + 1)
    vectors = [*own[:place], -CENTRE, *own[place:]]
    # The stranger is the most frontal of all.
    images = pictures([0 if at == place else 30 for at in range(count + 1)])
    found = identity_embedding(images, Frontal(), Raw(vectors), 3)  # type: ignore[arg-type]
    assert float(found @ unit(CENTRE)) > 0.9


def test_references_that_agree_are_all_kept_and_of_three_none_is_called_an_outlier() -> None:
    alike = [*around(CENTRE, 5, 0.02), *around(CENTRE, 1, 0.25)]
    assert 5 * np.median(medoid_distances(alike)) < max(medoid_distances(alike)) < 0.05
    images = pictures([0] * 6)
    assert np.allclose(
        identity_embedding(images, Frontal(), Raw(alike), 6),  # type: ignore[arg-type]
        unit(np.mean([unit(vector) for vector in alike], axis=0)),
        atol=1e-6,
    )
    three = [*around(CENTRE, 2, 0.1), -CENTRE]
    found = identity_embedding(images[:3], Frontal(), Raw(three), 3)  # type: ignore[arg-type]
    assert np.allclose(found, unit(np.mean([unit(vector) for vector in three], axis=0)), atol=1e-6)


def test_distances_are_counted_from_the_one_that_is_most_like_all_others() -> None:
    vectors = [unit(np.array(v, np.float32)) for v in ([1, 0, 0], [1, 0.5, 0], [1, -0.5, 0], [0, 0, 3])]
    assert medoid_distances(vectors) == pytest.approx([0, 1 - 2 / 5**0.5, 1 - 2 / 5**0.5, 1], abs=1e-6)


def test_one_reference_alone_is_frontal_sharp_and_like_the_others() -> None:
    vectors = around(CENTRE, 4, 0.35)
    nearest = int(np.argmin(medoid_distances(vectors)))
    turns = [20.0] * 4
    turns[nearest] = 5
    for blurred in ([], [at for at in range(4) if at != nearest]):
        found = identity_embedding(pictures(turns, blurred), Frontal(), Raw(vectors), 1)  # type: ignore[arg-type]
        assert np.allclose(found, unit(vectors[nearest]), atol=1e-6)
    # The most frontal is left when another one is sharper and nearer to the rest.
    rest = [at for at in range(4) if at != nearest]
    turns = [40.0] * 4
    turns[rest[0]], turns[nearest] = 0, 5
    found = identity_embedding(pictures(turns, [rest[0]]), Frontal(), Raw(vectors), 1)  # type: ignore[arg-type]
    assert np.allclose(found, unit(vectors[nearest]), atol=1e-6)


def test_the_best_of_the_characters_references_is_one_of_the_most_frontal(detector: Detector, sface: SFace) -> None:
    pixels = [np.asarray(read_image(path)) for path in EXAMPLES]
    found = identity_embedding(pixels, detector, sface, 1)
    alike = [float(found @ sface.embed(picture, detector.detect(picture)[0])) for picture in pixels]
    assert max(alike) == pytest.approx(1, abs=1e-5)
    assert abs(detector.detect(pixels[int(np.argmax(alike))])[0].yaw) < 10


def test_crops_are_aligned_to_the_template_at_their_size_the_most_frontal_first(detector: Detector) -> None:
    images = [read_image(path) for path in EXAMPLES]
    crops = face_crops(images, detector, 3)
    assert [(crop.size, crop.mode) for crop in crops] == [((224, 224), "RGB")] * 3
    yaws = [abs(detector.detect(np.asarray(image))[0].yaw) for image in images]
    frontal = sorted(range(12), key=yaws.__getitem__)[:3]
    for crop, place in zip(crops, frontal, strict=True):
        pixels = np.asarray(images[place])
        assert np.array_equal(np.asarray(crop), align(pixels, detector.detect(pixels)[0].points, 224))
        (face, *_) = detector.detect(np.asarray(crop))
        assert np.abs(face.points - ARCFACE_TEMPLATE * 2).mean() < 6
    with pytest.raises(BadImageError, match="none of the 1 references shows a face"):
        face_crops([np.zeros((256, 256, 3), np.uint8)], detector, 1)
