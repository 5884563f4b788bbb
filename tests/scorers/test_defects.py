"""The defect checks on clean and on injected images. Rates are measured by benchmarks/defects.py."""

from __future__ import annotations

import importlib
import sys
from functools import cache

import cv2
import numpy as np
import pytest
from places import ROOT

from sosie.core.errors import BadImageError, ConfigError
from sosie.core.score import Score, Scorecard
from sosie.faces.detect import Detector, Face
from sosie.scorers.defects import DEFECTS, framing, score_defects
from sosie.scorers.sample import Sample

pytestmark = pytest.mark.once

sys.path.insert(0, str(ROOT / "benchmarks"))
inject = importlib.import_module("inject")

CLEAN = sorted((ROOT / "examples" / "mira").glob("*.jpg"))
QUICK = tuple(name for name in DEFECTS if name != "text")


@cache
def clean(index: int, size: int = 256) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(CLEAN[index])), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


@cache
def detector() -> Detector:
    return Detector()


def judged(image: np.ndarray, name: str) -> Score:
    return score_defects(Sample(image, detector().detect(image)), [name])[0]


def face(x: float, y: float, w: float, h: float) -> Face:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], dtype=np.float32)
    return Face((x, y, w, h), points * np.float32([w, h]) + np.float32([x, y]), 0.9)


def framed(*faces: Face) -> dict[str, Score]:
    sample = Sample(np.full((200, 200, 3), 90, np.uint8), faces)
    return {score.name: score for score in score_defects(sample, ["no_face", "several_faces", "cut_off_face"])}


@pytest.mark.parametrize("index", range(len(CLEAN)))
def test_a_clean_render_passes_every_check_but_text(index: int) -> None:
    scores = score_defects(Sample(clean(index), detector().detect(clean(index))), QUICK)
    assert [score.name for score in scores] == list(QUICK)
    assert [(score.name, score.reason) for score in scores if score.passed is not True] == []


def test_a_clean_render_passes_all_checks_and_says_what_it_measured() -> None:
    scores = score_defects(Sample(clean(2), detector().detect(clean(2))))
    assert [score.name for score in scores] == list(DEFECTS)
    for score in scores:
        assert score.kind == "defect"
        assert score.passed is True
        assert score.reason == ""
        assert score.unit
        assert score.value is not None
        assert score.low <= score.value <= score.high
        assert (score.value >= score.threshold) == score.higher_is_better


def test_an_unknown_check_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'nois' is not a defect check; did you mean 'noise'\?"):
        score_defects(Sample(clean(0)), ["blank", "nois"])


def test_only_the_wanted_checks_are_made_in_the_order_of_the_list() -> None:
    scores = score_defects(Sample(clean(0)), ["waves", "blank"])
    assert [score.name for score in scores] == ["blank", "waves"]


@pytest.mark.parametrize("missing", ["zxingcpp", "rapidocr"])
def test_a_missing_library_gives_no_value_and_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("sosie.scorers.defects.text")._reader.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    score = score_defects(Sample(clean(0)), ["qr" if missing == "zxingcpp" else "text"])[0]
    assert score.value is None
    assert score.passed is None
    assert missing in score.reason
    assert "not installed" in score.reason


def test_an_image_that_is_too_small_gives_no_value_and_says_so() -> None:
    scores = score_defects(Sample(clean(0, 48)), ["noise", "lines", "waves"])
    assert [(score.value, score.passed) for score in scores] == [(None, None)] * 3
    assert all("smaller than 64 pixels" in score.reason for score in scores)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (63, 64), (65, 640), (333, 127)])
def test_images_of_any_shape_are_judged_without_an_error(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert len(score_defects(Sample(pixels), QUICK)) == len(QUICK)


@pytest.mark.parametrize("pixels", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))])
def test_a_sample_refuses_pixels_of_another_kind(pixels: np.ndarray) -> None:
    with pytest.raises(BadImageError, match=r"expected uint8 \[h,w,3\] RGB"):
        Sample(pixels)


def test_luma_is_rec_601_as_in_opencv() -> None:
    ours, theirs = Sample(clean(1)).luma, cv2.cvtColor(clean(1), cv2.COLOR_RGB2GRAY)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() <= 0.51


@pytest.mark.parametrize(
    ("colour", "word"),
    [((0, 0, 0), "black"), ((255, 255, 255), "white"), ((127, 127, 127), "grey"), ((200, 0, 0), "#")],
)
def test_one_colour_is_blank_and_named_even_with_speckle(colour: tuple[int, int, int], word: str) -> None:
    for speckle in (0.0, 2.0):
        score = judged(inject.blank(256, colour, speckle), "blank")
        assert score.passed is False
        assert word in score.reason


def test_a_picture_without_contrast_and_one_without_detail_are_flat() -> None:
    for index in range(0, 12, 3):
        assert judged(inject.low_contrast(clean(index), 0.15), "flat").passed is False
        assert judged(inject.washed_out(clean(index), 0.08), "flat").passed is False


@pytest.mark.parametrize("grain", [1, 2, 4])
def test_noise_is_found_and_its_sigma_and_grain_measured(grain: int) -> None:
    for index in range(0, 12, 3):
        score = judged(inject.noise(clean(index), 12, index, grain), "noise")
        assert score.passed is False
        assert score.value == pytest.approx(12 * 0.8, rel=0.4)
        assert ("grains" in score.reason) == (grain > 1)


def test_noise_is_measured_beside_black_where_it_is_clipped() -> None:
    image = clean(0).copy()
    image[:, :128] = 0
    assert judged(inject.noise(image, 12, 0), "noise").value == pytest.approx(12 * 0.8, rel=0.15)


def test_what_is_grainy_in_a_part_of_the_image_only_is_texture() -> None:
    image = inject.noise(clean(0), 20, 0)
    image[:100] = clean(0)[:100]
    assert judged(image, "noise").passed is True


def test_texture_that_fills_the_image_is_not_noise() -> None:
    for seed in range(6):
        assert judged(inject.fractal(256, seed, (0.8, 1.0, 1.3)[seed % 3]), "noise").passed is True


@pytest.mark.parametrize(("angle", "name"), [(0, "horizontal lines"), (90, "vertical lines"), (4, "horizontal lines")])
@pytest.mark.parametrize("period", [3, 8, 12])
def test_straight_lines_are_found_with_direction_and_period(angle: float, name: str, period: int) -> None:
    for index in (0, 2, 7):
        score = judged(inject.lines(clean(index), 8, period, angle), "lines")
        assert score.passed is False
        assert score.reason.startswith(f"{name} every ")
        assert int(score.reason.split()[-2]) == pytest.approx(period, rel=0.13)


@pytest.mark.parametrize("angle", [20, 45, 120, 160])
def test_slanted_lines_are_found_with_their_angle(angle: int) -> None:
    score = judged(inject.lines(clean(0), 6, 8, angle), "lines")
    assert score.passed is False
    words = score.reason.split()
    assert words[:3] == ["lines", "at", "about"]
    assert abs(int(words[3]) - angle) <= 4
    assert int(words[-2]) == pytest.approx(8, rel=0.13)


def test_a_grid_is_found_and_called_one() -> None:
    score = judged(inject.grid(clean(0), 10, 8), "lines")
    assert score.passed is False
    assert score.reason.startswith("a grid every")


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_wavy_lines_are_found_by_waves_and_called_wavy(angle: float) -> None:
    for index in (0, 2, 7):
        score = judged(inject.waves(clean(index), 6, 8, 96, angle), "waves")
        assert score.passed is False
        assert "wavy lines" in score.reason


def test_a_straight_pattern_is_not_called_wavy() -> None:
    assert judged(inject.lines(clean(0), 6, 8), "waves").reason.startswith("a line pattern")


def test_a_pattern_that_spares_the_face_belongs_to_the_scene() -> None:
    image = clean(0)
    found = detector().detect(image)
    x, y, w, h = (round(v) for v in found[0].box)
    striped = inject.lines(image, 12, 8)
    assert score_defects(Sample(striped, found), ["lines"])[0].passed is False
    striped[y : y + h, x : x + w] = image[y : y + h, x : x + w]
    assert score_defects(Sample(striped, found), ["lines"])[0].passed is True


def test_a_brick_wall_behind_a_figure_is_no_line_pattern() -> None:
    scores = [judged(inject.bricks(512, seed, figure=True), name) for seed in range(5) for name in ("lines", "waves")]
    assert [score.passed for score in scores] == [True] * 10


@pytest.mark.parametrize("kind", ["QRCode", "DataMatrix", "Aztec"])
def test_a_code_is_read_and_its_kind_and_place_are_named(kind: str) -> None:
    score = judged(inject.code(clean(3, 512), 140, 0.6, 1, kind), "qr")
    assert score.value == 1
    assert score.passed is False
    assert "at x" in score.reason


def test_cells_that_look_like_a_code_are_found_and_bricks_are_not() -> None:
    for seed in range(3):
        assert judged(inject.blocks(clean(seed, 512), 140, 5, 0.5, seed), "qr").reason.startswith("a texture like")
        assert judged(inject.bricks(256, seed + 4, figure=True), "qr").passed is True


def test_a_word_is_read_and_two_letters_are_let_pass() -> None:
    score = judged(inject.text(clean(0), "SampleStock", 18, 0.7, 0), "text")
    assert score.value == len("SampleStock")
    assert score.passed is False
    assert "SampleStock" in score.reason
    assert judged(inject.text(clean(0), "OK", 18, 1.0, 0), "text").passed is True


def test_the_text_reader_is_made_once_and_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    reader = importlib.import_module("sosie.scorers.defects.text")._reader
    reader.cache_clear()
    judged(clean(1), "text")
    first = reader()
    judged(clean(1), "text")
    assert reader() is first
    assert capfd.readouterr() == ("", "")


def test_without_a_face_the_other_framing_checks_have_no_value() -> None:
    scores = framed()
    assert (scores["no_face"].value, scores["no_face"].passed) == (0, False)
    for name in ("several_faces", "cut_off_face"):
        assert (scores[name].value, scores[name].passed) == (None, None)
        assert scores[name].reason == "no face was found"


def test_a_second_face_counts_from_three_tenths_of_the_first_in_size() -> None:
    first = face(60, 60, 80, 80)
    assert framed(first)["several_faces"].value == 0
    assert framed(face(5, 5, 20, 20), first)["several_faces"].passed is True
    alarmed = framed(face(5, 5, 28, 28), first)["several_faces"]
    assert (alarmed.value, alarmed.passed) == (pytest.approx(0.35), False)
    assert "2 faces" in alarmed.reason


@pytest.mark.parametrize(
    ("box", "border"),
    [((-5, 60, 80, 80), "left"), ((60, 1, 80, 80), "top"), ((121, 60, 80, 80), "right"), ((60, 130, 80, 80), "bottom")],
)
def test_a_face_at_the_border_is_cut_off_there(box: tuple[float, float, float, float], border: str) -> None:
    score = framed(face(*box))["cut_off_face"]
    assert score.passed is False
    assert score.reason == f"the face is cut off at the {border}"
    assert framed(face(60, 60, 80, 80))["cut_off_face"].passed is True


def test_points_near_the_border_cut_a_face_off_whatever_its_box() -> None:
    inside = face(60, 60, 80, 80)
    points = inside.points.copy()
    points[0, 0] = 2
    assert framed(Face(inside.box, points, 0.9))["cut_off_face"].passed is False


def test_a_render_cropped_through_the_face_is_cut_off() -> None:
    box = detector().detect(clean(0, 512))[0].box
    for side in ("left", "right", "top", "bottom"):
        assert judged(inject.cut(clean(0, 512), box, 0.35, side), "cut_off_face").passed is False


def test_without_a_face_the_missing_face_alone_is_named() -> None:
    card = Scorecard(tuple(score_defects(Sample(np.full((200, 200, 3), 90, np.uint8)), ["no_face", "several_faces"])))
    assert [score.name for score in card.alarms] == ["no_face"]


def test_a_check_that_could_not_run_is_named_with_the_others() -> None:
    scores = (framing.NO_FACE.score(0, "no face was found"), framing.CUT_OFF_FACE.unmeasured("opencv is missing"))
    assert [score.name for score in Scorecard(scores).alarms] == ["no_face", "cut_off_face"]


def test_the_main_face_is_the_one_that_was_drawn() -> None:
    large, small = face(10, 10, 80, 80), face(120, 120, 40, 40)
    pixels = np.full((200, 200, 3), 90, np.uint8)
    assert Sample(pixels, (large, small)).main_face is large
    assert Sample(pixels, (large, small), at=(0.7, 0.7)).main_face is small
    assert Sample(pixels, (large, small), at=(0.99, 0.01)).main_face is large
