"""Looks: what each one sees in drawn pictures, what it cannot measure, and that they decide where a recipe asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from sosie.core import Acceptance, LookRule, Score
from sosie.core.errors import ConfigError
from sosie.core.schema import digest, to_table
from sosie.faces.align import ARCFACE_TEMPLATE
from sosie.faces.detect import Face
from sosie.faces.texture import skin_looks
from sosie.loop.judge import SCORERS_VERSION, Judge
from sosie.scorers import looks
from sosie.scorers.identity import Gate
from sosie.scorers.looks import LOOKS, Looks
from sosie.scorers.sample import Sample

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SIDE = 512
SKIN = (205, 160, 140)
EYES = 110.0


def face(eyes: float = EYES, turn: float = 0.0) -> Face:
    """A face in the middle of the picture with `eyes` px between its eyes; its nose is moved by `turn` of that."""
    points = (ARCFACE_TEMPLATE - 56) * (eyes / 35.24) + (SIDE / 2, SIDE / 2)
    points[2, 0] += turn * eyes
    return Face((SIDE / 2 - eyes, SIDE / 2 - 1.4 * eyes, 2 * eyes, 2.8 * eyes), points.astype(np.float32), 1.0)


def random(seed: int, sigma: float, blur: float = 0.0) -> np.ndarray[Any, Any]:
    """Noise [SIDE, SIDE, 1] of standard deviation `sigma`, blurred by `blur` px before."""
    field = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), blur) if blur else field
    return (field * (sigma / field.std()))[..., np.newaxis]


def plain(added: Any = 0.0, colour: tuple[int, int, int] = SKIN) -> Pixels:
    """A picture in one colour with something added to it."""
    shade = np.linspace(-6, 6, SIDE)[:, np.newaxis, np.newaxis]
    return np.clip(np.array(colour) + shade + added + np.zeros((SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def jpeg(image: Pixels, quality: int) -> Pixels:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


TEXTURE = LookRule("skin_texture", 0.4)


def look(name: str, image: Pixels, *faces: Face) -> Score:
    scores = Looks((TEXTURE,)).score(Sample(image, faces or (face(),)))
    (score,) = (score for score in scores if score.name == name)
    assert score.kind == "look"
    return score


def test_skin_with_texture_passes_and_skin_without_it_fails() -> None:
    textured = look("skin_texture", plain(random(1, 4, 1.2)))
    assert textured.passed
    smooth = look("skin_texture", plain(random(1, 4, 12)))
    assert smooth.passed is False
    assert "plastic" in smooth.reason


@pytest.mark.parametrize(
    "posing",
    [lambda: plain(random(2, 5)), lambda: jpeg(plain(random(3, 5, 12)), 50)],
    ids=["noise", "JPEG"],
)
def test_what_poses_as_texture_does_not_pass_for_it(posing: Callable[[], Pixels]) -> None:
    assert look("skin_texture", posing()).passed is False


def test_a_face_pass_measures_skin_before_and_after_as_the_looks_do() -> None:
    before = plain(random(1, 4, 1.2))
    after = cv2.GaussianBlur(before, (0, 0), 2)
    own, smooth = (skin_looks(image, face().points) for image in (before, after))
    assert own.keys() == smooth.keys() == {"skin_texture", "skin_relief"}
    assert own["skin_texture"] == pytest.approx(look("skin_texture", before).value, rel=0.1)
    assert smooth["skin_texture"] < 0.5 * own["skin_texture"]
    assert skin_looks(before, face(30).points) == {}, "a face so small says nothing"


def test_mirrored_light_on_the_skin_is_shine_and_bright_or_pale_skin_is_not() -> None:
    assert look("shine", plain()).value == 0
    assert look("shine", plain(colour=(235, 228, 224))).value == 0, "it is as pale all over"
    assert look("shine", plain(colour=(250, 190, 160))).value == 0, "it is bright, and has its colour"
    lit = plain()
    x, y = (round(float(side)) for side in face().points[:2].mean(axis=0))
    wide = round(0.2 * EYES)
    cv2.ellipse(lit, (x, y - round(0.6 * EYES)), (2 * wide, wide), 0, 0, 360, (252, 250, 249), -1)
    score = look("shine", lit)
    assert score.passed is False
    assert "mirrors the light" in score.reason


@pytest.mark.parametrize(("name", "point"), [("eyes", 0), ("eyes", 1), ("mouth", 4)])
def test_a_smeared_eye_or_mouth_is_told_and_a_faint_one_is_not(name: str, point: int) -> None:
    drawn = plain()
    for x, y in face().points:
        cv2.circle(drawn, (round(float(x)), round(float(y))), 14, (60, 40, 40), -1, cv2.LINE_AA)
        cv2.line(
            drawn, (round(float(x)) - 30, round(float(y))), (round(float(x)) + 30, round(float(y))), (60, 40, 40), 2
        )
    faint = np.rint(0.7 * plain() + 0.3 * drawn).astype(np.uint8)
    assert look(name, drawn).passed
    assert look(name, faint).passed
    x, y = (round(float(side)) for side in face().points[point])
    smeared = drawn.copy()
    part = np.s_[y - 45 : y + 45, x - 110 if name == "mouth" else x - 45 : x + 45]
    smeared[part] = cv2.GaussianBlur(drawn, (0, 0), 8)[part]
    score = look(name, smeared)
    assert score.passed is False
    assert "smeared" in score.reason


@pytest.mark.parametrize("sigma", [2.0, 6.0])
def test_grain_is_the_sigma_of_noise_where_the_picture_is_flat(sigma: float) -> None:
    picture = plain(random(5, sigma))
    picture[: SIDE // 2] = plain(random(6, 40))[: SIDE // 2]
    value = look("grain", picture).value
    assert value == pytest.approx(sigma, rel=0.15)


def test_highlights_are_the_share_that_is_white() -> None:
    picture = plain()
    picture[: SIDE // 4] = 255
    score = look("highlights", picture)
    assert score.value == pytest.approx(0.25)
    assert score.passed is False


def test_colours_are_measured_and_judged_only_by_a_limit() -> None:
    grey, red = plain(colour=(128, 128, 128)), plain(colour=(170, 100, 100))
    for name, value in (("saturation", 30.9), ("green_red", 28.3), ("blue_yellow", 12.4)):
        assert look(name, grey).value == pytest.approx(0, abs=0.2)
        assert look(name, red).value == pytest.approx(value, abs=1)
        assert look(name, red).passed is None


def test_a_face_that_is_softer_than_the_picture_is_told() -> None:
    stripes = plain(60 * (np.sin(np.arange(SIDE) / 4) > 0)[np.newaxis, :, np.newaxis])
    assert look("face_sharpness", stripes).value == pytest.approx(1, abs=0.15)
    soft = stripes.copy()
    soft[90:420, 130:380] = cv2.GaussianBlur(stripes, (0, 0), 2)[90:420, 130:380]
    score = look("face_sharpness", soft)
    assert score.passed is False
    assert "softer" in score.reason


@pytest.mark.parametrize(
    ("faces", "why"),
    [
        ((), "no face was found"),
        ((face(30),), "30 px between the eyes; at least 86 are needed"),
        ((face(turn=0.6),), "the face is turned by"),
    ],
)
def test_a_face_that_cannot_be_looked_at_has_no_value_and_the_reason(faces: tuple[Face, ...], why: str) -> None:
    (score,) = (s for s in Looks().score(Sample(plain(), faces)) if s.name == "skin_texture")
    assert (score.value, score.passed) == (None, None)
    assert score.reason.startswith(why)


def test_a_small_picture_and_one_of_another_size_have_a_score_or_a_reason_for_each_look() -> None:
    for height, width in ((1, 1), (40, 700), (1500, 9)):
        for score in Looks().score(Sample(np.full((height, width, 3), 90, np.uint8), (face(),))):
            assert score.value is not None or score.reason


def test_a_limit_of_the_recipe_takes_the_place_of_the_threshold() -> None:
    sample = Sample(plain(random(1, 4, 1.2)), (face(),))
    texture = Looks((LookRule("skin_texture", 50.0),)).score(sample)[0]
    assert (texture.threshold, texture.passed) == (50.0, False)
    assert "below 50" in texture.reason


@pytest.mark.parametrize(
    ("acceptance", "message"),
    [
        (Acceptance(looks=(LookRule("skin_textur"),)), "did you mean 'skin_texture'"),
        (Acceptance(looks=(LookRule("grain"),)), "no threshold of its own"),
        (Acceptance(looks=(LookRule("skin_texture"),)), "no threshold of its own"),
        (Acceptance(looks=(LookRule("highlights"), LookRule("highlights", 0.2))), "twice"),
        (Acceptance(defects=("skin_texture",)), "is a look, no defect"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_an_error_before_the_first_image(acceptance: Acceptance, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Judge(None, Gate((), {}), acceptance)  # type: ignore[arg-type]
    assert message in f"{error.value.message} {error.value.hint}"


class Seer:
    """A detector that sees the face in the middle."""

    def detect(self, pixels: Pixels) -> tuple[Face, ...]:
        return (face(),)


def test_looks_are_recorded_always_and_decide_where_a_recipe_asks() -> None:
    image = Image.fromarray(plain(random(1, 4, 12)))
    free = Judge(Seer(), Gate((), {}), Acceptance(defects=("blank",)))  # type: ignore[arg-type]
    asking = replace(free, acceptance=Acceptance(defects=("blank",), looks=(TEXTURE,)))
    card, verdict = free(image)
    assert [score.name for score in card.of("look")] == [one.name for one in LOOKS]
    assert not any("plastic" in reason for reason in verdict.reasons)
    assert any("plastic" in reason for reason in asking(image)[1].reasons)


def test_a_look_that_changes_makes_only_verdicts_stale_that_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate((), {})
    rules = {
        "free": Acceptance(),
        "texture": Acceptance(looks=(TEXTURE,)),
        "highlights": Acceptance(looks=(LookRule("highlights"),)),
    }

    def ids() -> dict[str, str]:
        return {name: Judge(None, gate, rule).id for name, rule in rules.items()}  # type: ignore[arg-type]

    before = ids()
    assert len(set(before.values())) == 3
    monkeypatch.setattr(
        looks, "LOOKS", tuple(replace(one, version=2) if one.name == "skin_texture" else one for one in LOOKS)
    )
    changed = [name for name, now in ids().items() if now != before[name]]
    assert changed == ["texture"]


def test_judges_of_rules_without_looks_are_those_of_before_there_were_looks() -> None:
    rules = Acceptance(defects=("blank",))
    assert "looks" not in to_table(rules)
    judge = Judge(None, Gate((), {}), rules)  # type: ignore[arg-type]
    assert judge.id == digest([judge.gate.id, rules, SCORERS_VERSION, True, False])
