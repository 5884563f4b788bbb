"""The check of reference images, on the renders of the example character and on what people offer by mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sosie.core.errors import BadImageError
from sosie.core.finding import has_errors
from sosie.faces.align import align
from sosie.faces.detect import Detector
from sosie.faces.encoders import SFace, Vector, unit
from sosie.faces.references import ReferenceReport, _outliers, check_references, identity_embedding, sharpness
from sosie.files.images import read_image

EXAMPLES = sorted((Path(__file__).parent.parent / "examples" / "mira").glob("*.jpg"))


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
