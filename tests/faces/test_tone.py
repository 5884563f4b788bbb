"""Skin found by its colour, brought to another tone, and a face pass whose model draws in other colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from places import ROOT

from sosie.core import Detail, Finding
from sosie.core.prompt import without_hair
from sosie.core.schema import to_table
from sosie.diffusion.face_pass import FacePass, FaceResult, Square, face_square, put_back, run_face_pass, strangeness
from sosie.faces.align import align
from sosie.faces.blend import composite, seam
from sosie.faces.colour import from_lab, to_lab
from sosie.faces.detect import Detector, Face
from sosie.faces.mask import face_mask, face_outline, skin_following
from sosie.faces.match import likeness
from sosie.faces.skin import cheeks_of, skin_mask
from sosie.faces.tone import agreement, tone_of, toned, usual_tone
from sosie.files.images import read_image

pytestmark = pytest.mark.once

EXAMPLES = ROOT / "examples" / "mira"
DARK = np.array([36.0, 11.0, 13.0])


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    return read_image(EXAMPLES / "00.jpg").resize((256, 256), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> Face:
    return Detector().detect(np.asarray(portrait))[0]


@pytest.fixture(scope="module")
def dark_portrait(portrait: Image.Image, face: Face) -> Image.Image:
    """The aligned face in a dark tone: whose face is to be drawn."""
    aligned = to_lab(align(np.asarray(portrait), face.points, 224))
    own = np.median(aligned[100:180, 70:150].reshape(-1, 3), axis=0)
    return Image.fromarray(np.clip(np.rint(from_lab(aligned + DARK - own)), 0, 255).astype(np.uint8))


def moved(pixels: np.ndarray, by: tuple[float, float, float]) -> np.ndarray:
    return np.clip(np.rint(from_lab(to_lab(pixels) + np.array(by))), 0, 255).astype(np.uint8)


def test_skin_is_what_has_the_colours_of_the_face_and_not_of_what_is_around(portrait: Image.Image, face: Face) -> None:
    skin = skin_mask(to_lab(np.asarray(portrait)), face)
    assert skin is not None
    assert (skin.dtype, skin.shape) == (np.float32, (256, 256))
    assert skin[cheeks_of(face, (256, 256))].mean() > 0.9
    assert max(skin[:20, :20].mean(), skin[:20, -20:].mean(), skin[-12:, :60].mean()) < 0.1
    x, y, w, h = (round(value) for value in face.box)
    hair = skin[max(0, y - h // 8) : y, x + w // 4 : x + 3 * w // 4]
    neck = skin[y + round(1.02 * h) : y + round(1.08 * h), x + 2 * w // 5 : x + 3 * w // 5]
    assert hair.mean() < 0.25
    assert neck.mean() > 0.7


def test_a_face_too_small_to_tell_its_skin_has_none(portrait: Image.Image, face: Face) -> None:
    tiny = replace(face, box=(100.0, 100.0, 6.0, 8.0), points=(face.points - face.points.mean(axis=0)) / 20 + 104)
    assert skin_mask(to_lab(np.asarray(portrait)), tiny) is None


def test_a_fringe_is_left_out_of_the_mask_and_shade_is_not(portrait: Image.Image, face: Face) -> None:
    outline = face_outline(face)
    everywhere = np.ones((256, 256), np.float32)
    fringe = everywhere.copy()
    fringe[: round(outline.centre[1] - 0.8 * outline.above)] = 0
    shaded = everywhere.copy()
    shaded[round(outline.centre[1]) :, : round(outline.centre[0])] = 0
    whole, hidden, dark = (skin_following(face, skin) for skin in (everywhere, fringe, shaded))
    top = slice(round(outline.centre[1] - 0.98 * outline.above), round(outline.centre[1] - 0.92 * outline.above))
    middle = round(outline.centre[0])
    assert whole[top, middle].min() > 0.9
    assert hidden[top, middle].max() < 0.1
    egg = face_mask(face, (256, 256), dilate=0.0, feather=0.0)
    assert dark[egg > 0].min() > 0.3
    assert (whole.sum() > dark.sum() > 0.8 * egg.sum()).all()


def test_a_body_gets_another_tone_and_nothing_else_does(portrait: Image.Image, face: Face) -> None:
    lab = to_lab(np.asarray(portrait))
    given = toned(lab, face, DARK)
    assert given is not None
    after = lab + given.shift
    assert abs(tone_of(after, face)[0] - DARK[0]) < 6
    neck = (given.where > 0.95) & (face_mask(face, (256, 256), dilate=0.1) == 0)
    assert neck.sum() > 200
    assert np.median(given.shift[neck][:, 0]) < -12
    assert not given.shift[given.where == 0].any()
    assert not given.where[:30].any()
    assert not given.where[-10:, :50].any()


def test_a_coloured_light_stays(portrait: Image.Image, face: Face) -> None:
    lab = to_lab(np.asarray(portrait)) + np.array([0.0, 25.0, -30.0])
    given = toned(lab, face, tone_of(to_lab(np.asarray(portrait)), face))
    assert given is not None
    assert np.abs(given.shift[..., 1:]).max() < 3


def test_the_usual_tone_is_that_of_most_portraits(dark_portrait: Image.Image) -> None:
    light = Image.fromarray(moved(np.asarray(dark_portrait), (30, 0, 0)))
    tone = usual_tone([dark_portrait, light, dark_portrait])
    assert tone == pytest.approx(usual_tone([dark_portrait]), abs=0.5)
    assert usual_tone([]) is None


def test_low_frequencies_are_brought_to_agree_and_features_stay() -> None:
    y, x = np.mgrid[:120, :120] / 120.0
    wanted = np.stack([50 + 20 * x, 10 + 0 * x, 12 + 4 * y], axis=-1)
    features = np.zeros((120, 120, 3))
    features[::8, ::8, 0] = 10
    found = wanted + features - np.array([18.0, -6.0, 9.0]) - np.stack([6 * x, 0 * x, 0 * x], axis=-1)
    weights = np.ones((120, 120))
    weights[40:60, 40:60] = 0
    matched = found + agreement(wanted, found, weights, 100.0)
    rest = matched - wanted - features
    assert np.abs(rest[20:-20, 20:-20]).mean() < 1
    assert not agreement(wanted, found, 0 * weights, 100.0).any()


def test_a_step_that_was_drawn_is_no_seam_and_one_that_the_blend_made_is() -> None:
    source = np.full((200, 200, 3), 128, np.uint8)
    mask = np.zeros((200, 200), np.float32)
    mask[60:140, 60:140] = 1
    drawn = moved(source, (12, 0, 0))
    drawn[mask == 0] = 128
    assert seam(source, drawn, mask).mean > 8
    assert seam(source, drawn, mask, drawn).mean < 0.1
    stepped = composite(source, moved(drawn, (0, 14, 0)), mask)
    assert seam(source, stepped, mask, drawn).mean > 5


def test_face_and_body_are_compared_before_and_after(portrait: Image.Image, face: Face) -> None:
    source = np.asarray(portrait)
    mask = face_mask(face, (256, 256))
    other = composite(source, moved(source, (-25, 0, 0)), mask)
    before, after = likeness(source, other, mask, face)
    assert before.colour is not None
    assert after.colour is not None
    assert after.colour > before.colour + 8
    noisy = source + np.random.default_rng(0).normal(0, 12, source.shape[:2])[..., np.newaxis] * mask[..., np.newaxis]
    _, grainy = likeness(source, np.clip(np.rint(noisy), 0, 255).astype(np.uint8), mask, face)
    assert grainy.grain is not None
    assert before.grain is not None
    assert grainy.grain > 2 * before.grain


def task_of(portrait: Image.Image, face: Face, dark: Image.Image, **detail: Any) -> FacePass:
    return FacePass(portrait, Detail(size=256, **detail), "mira", 7, lambda _: face, lambda: [dark])


def test_a_face_drawn_in_other_colours_is_mended_and_not_refused(
    portrait: Image.Image, face: Face, dark_portrait: Image.Image
) -> None:
    def draw(square: Square) -> Image.Image:
        drawn = moved(np.asarray(Image.fromarray(square.under).filter(ImageFilter.GaussianBlur(1))), (14, 8, -9))
        return Image.fromarray(composite(square.under, drawn, square.change))

    for tone in ("body", "guide"):
        task = task_of(portrait, face, dark_portrait, tone=tone)
        result = run_face_pass(task, draw)
        assert not result.findings
        measures = dict(result.measures)
        assert measures["seam"] < 3
        assert measures["colour_after"] < measures["colour_before"] + 4
        assert measures["grain_after"] > 0
        assert {"skin_relief_before", "skin_relief_after"} <= measures.keys()
        square = face_square(task)
        assert isinstance(square, Square)
        reach = square.change if square.toned is None else np.maximum(square.change, square.toned.where)
        before, after = np.asarray(portrait), np.asarray(result.image)
        assert not (before != after)[reach == 0].any()
        darker = tone_of(to_lab(before), face)[0] - tone_of(to_lab(after), face)[0]
        assert (darker > 15) == (tone == "guide")
        assert (square.toned is None) == (tone == "body")
        assert np.array_equal(square.under, square.crop.image) == (tone == "body")


def test_a_face_that_leaves_its_body_behind_is_refused(
    portrait: Image.Image, face: Face, dark_portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.faces import blend

    monkeypatch.setattr(blend, "in_light", lambda _under, new, _mask, _face: from_lab(new))
    task = task_of(portrait, face, dark_portrait, tone="body")
    square = face_square(task)
    assert isinstance(square, Square)
    other = Image.fromarray(composite(square.under, moved(square.under, (-30, 5, 0)), square.change))
    refused = put_back(task, square, other)
    assert [finding.code for finding in refused.findings] == ["SOS-E024"]
    assert refused.image is portrait
    assert dict(refused.measures)["colour_after"] > 12


def test_a_face_whose_body_cannot_take_its_tone_is_drawn_in_the_tone_of_the_body(
    portrait: Image.Image, face: Face, dark_portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.faces import blend

    monkeypatch.setattr(blend, "in_light", lambda _under, new, _mask, _face: from_lab(new))
    drawn: list[Square] = []

    def draw(square: Square) -> Image.Image:
        drawn.append(square)
        step = (0, 0, 0) if square.toned is None else (-30, 5, 0)
        return Image.fromarray(composite(square.under, moved(square.under, step), square.change))

    result = run_face_pass(task_of(portrait, face, dark_portrait), draw)
    assert [square.toned is None for square in drawn] == [False, True]
    assert np.array_equal(drawn[1].under, drawn[1].crop.image)
    assert [finding.code for finding in result.findings] == ["SOS-E043"]
    assert dict(result.measures)["seam"] < 3
    before, after = (tone_of(to_lab(np.asarray(image)), face)[0] for image in (portrait, result.image))
    assert after == pytest.approx(before, abs=3)


def test_a_face_that_shows_a_seam_in_both_tones_is_refused_with_the_picture_as_it_was(
    portrait: Image.Image, face: Face, dark_portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.faces import blend

    monkeypatch.setattr(blend, "in_light", lambda _under, new, _mask, _face: from_lab(new))

    def draw(square: Square) -> Image.Image:
        return Image.fromarray(composite(square.under, moved(square.under, (-30, 5, 0)), square.change))

    result = run_face_pass(task_of(portrait, face, dark_portrait), draw)
    assert [finding.code for finding in result.findings] == ["SOS-E024"]
    assert result.image is portrait


def test_the_farther_a_face_is_the_more_is_drawn_anew(
    portrait: Image.Image, face: Face, dark_portrait: Image.Image
) -> None:
    assert [strangeness(value) for value in (None, 0.9, 0.4, -0.2)] == pytest.approx([0, 0, 0.5, 1])
    for likeness_of, more in ((None, 0), (0.7, 0), (0.4, 0.1), (0.0, 0.2)):
        task = task_of(portrait, replace(face, likeness=likeness_of), dark_portrait, far=0.2)
        square = face_square(task)
        assert isinstance(square, Square)
        assert square.more_denoise == pytest.approx(more)


def test_a_face_that_is_left_alone_needs_no_portraits(portrait: Image.Image, face: Face) -> None:
    why = Finding("SOS-E020", "warning", "mira", "no face")
    result = face_square(FacePass(portrait, Detail(), "mira", 0, lambda _: why))
    assert isinstance(result, FaceResult)
    assert result.image is portrait


def test_a_small_face_is_enlarged_for_its_model_and_put_back_at_its_own_scale(
    portrait: Image.Image, dark_portrait: Image.Image
) -> None:
    wide = Image.new("RGB", (400, 300), (90, 110, 130))
    wide.paste(portrait.resize((150, 150), Image.Resampling.LANCZOS), (180, 140))
    found = Detector().detect(np.asarray(wide))[0]
    task = FacePass(wide, Detail(size=1024), "mira", 7, lambda _: found, lambda: [dark_portrait])
    square = face_square(task)
    assert isinstance(square, Square)
    assert square.crop.scale > 5
    result = put_back(task, square, Image.fromarray(square.under))
    assert not result.findings
    after = np.asarray(result.image)
    assert after.shape == (300, 400, 3)
    assert tone_of(to_lab(np.asarray(wide)), found)[0] - tone_of(to_lab(after), found)[0] > 15
    assert not (after != np.asarray(wide))[:140].any()


def test_plans_from_before_there_was_a_tone_keep_their_ids() -> None:
    assert {"tone", "far"}.isdisjoint(to_table(Detail()))
    assert to_table(Detail(tone="body", far=0.1)).items() >= {"tone": "body", "far": 0.1}.items()


def test_a_face_pass_is_not_told_of_hair() -> None:
    assert without_hair("a young woman, long red hair, green eyes, short-haired, grey beard") == (
        "a young woman, green eyes, grey beard"
    )
