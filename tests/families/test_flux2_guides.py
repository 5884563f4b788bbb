"""The character's references as images that FLUX.2 klein sees: which, how they are framed, and never stretched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_flux2 as tiny
from PIL import Image

from sosie.core import Finding
from sosie.engines.guide_checks import check_guides
from sosie.faces.views import asked_turn, spread
from sosie.families.contract.guides import GuideInput
from sosie.families.flux2.guides.references import BARS, MOST, condition, letterboxed


def ring(width: int, height: int) -> Image.Image:
    """A white disc on black: what is stretched is no disc any more."""
    y, x = np.mgrid[:height, :width]
    radius = min(width, height) / 3
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < radius**2
    return Image.fromarray((np.repeat(inside[..., None], 3, axis=2) * 255).astype(np.uint8))


@pytest.mark.parametrize("source", [(300, 300), (900, 300), (200, 700), (3000, 1000), (64, 64)])
@pytest.mark.parametrize("box", [(1024, 1024), (832, 1216), (2048, 512)])
def test_a_reference_is_whole_unstretched_and_not_enlarged(source: tuple[int, int], box: tuple[int, int]) -> None:
    made = letterboxed(ring(*source), box)
    assert made.width % 16 == 0
    assert made.height % 16 == 0
    assert made.width * made.height <= 1.1 * 1024 * 1024
    assert made.width / made.height == pytest.approx(box[0] / box[1], rel=0.25)
    white = np.argwhere(np.asarray(made)[..., 0] > 200)
    tall, wide = white.max(axis=0) - white.min(axis=0) + 1
    assert tall == pytest.approx(wide, abs=3)
    assert wide <= 2 * min(source) / 3 + 2


def test_bars_are_grey_where_the_shapes_differ_and_none_where_they_are_alike() -> None:
    wide = np.asarray(letterboxed(ring(400, 200), (512, 512)))
    assert tuple(wide[0, 0]) == BARS
    assert tuple(wide[-1, 0]) == BARS
    same = np.asarray(letterboxed(ring(512, 512), (512, 512)))
    assert not (same == BARS[0]).all(axis=2).any()


def test_references_of_mixed_sizes_are_each_put_on_a_canvas_and_more_than_the_model_takes_are_left_out() -> None:
    pictures = [ring(100 + 40 * number, 300) for number in range(6)]
    given = tiny.given(tiny.stage(guides=(tiny.guide(references=6),)), {}, pictures=pictures)
    images = condition(GuideInput(tiny.guide(references=6), given)).images
    assert len(images) == MOST
    assert all(side % 16 == 0 for image in images for side in image.size)


def test_the_image_that_a_refine_stage_edits_is_the_first_that_is_seen() -> None:
    source = Image.new("RGB", (160, 96), (250, 0, 0))
    guide = tiny.guide(references=1)
    given = tiny.given(tiny.stage("refine", guides=(guide,)), {}, source, [ring(64, 64)])
    first, second = condition(GuideInput(guide, given)).images
    assert first.size == (160, 96)
    assert first.getpixel((80, 48)) == (250, 0, 0)
    assert second.width / second.height == pytest.approx(160 / 96, rel=0.25)


def test_the_first_view_is_from_the_front_and_the_others_are_turned() -> None:
    yaws = [30.0, -2.0, 12.0, -28.0, 4.0]
    assert spread(yaws, 1) == [1]
    assert spread(yaws, 3) == [1, 0, 3]
    assert spread(yaws, 3, asked=15.0) == [1, 2, 3]
    assert sorted(spread(yaws, 9)) == [0, 1, 2, 3, 4]
    assert spread([], 3) == []


@pytest.mark.parametrize(
    ("prompt", "degrees"),
    [
        ("smiling, forest", None),
        ("facing the camera", 0.0),
        ("Three-quarter view", 35.0),
        ("in profile, at dusk", 60.0),
        ("head turned slightly", 15.0),
        ("looking over her shoulder", 30.0),
        ("with a high profile job in returned goods", 60.0),
    ],
)
def test_what_a_prompt_asks_of_the_heads_turn(prompt: str, degrees: float | None) -> None:
    assert asked_turn(prompt) == degrees


def told(guide: Any, references: int = 1, where: Any = "in process") -> list[Finding]:
    stage = tiny.stage(guides=(guide,))
    plan = tiny.planned(stage)
    who = replace(plan.character, references=plan.character.references * references)
    return check_guides(stage, replace(plan, character=who), where)


def test_more_references_than_the_model_takes_and_none_at_all_are_errors() -> None:
    (much,) = told(tiny.guide(references=9))
    assert much.code == "SOS-E038"
    assert much.message == "guide 'references' shows 9 references; the model takes 4 at most"
    (none,) = told(tiny.guide(references=2), references=0)
    assert none.code == "SOS-E038"
    assert (
        none.message == "guide 'references' shows the references of 'nobody', and there are none; expected one or more"
    )
    assert told(tiny.guide(references=4, framing="head", scale=1.5), where="in graphs") == []


def test_a_guide_that_shows_no_references_takes_no_framing() -> None:
    from sosie.core import Guide

    stage = replace(tiny.stage(), family="zimage", guides=(Guide("control", weights="w", picture="p", framing="head"),))
    said = check_guides(stage, tiny.planned(stage), "in process")
    assert [finding.message for finding in said] == [
        "guide 'control' frames its references itself; expected no framing = 'head'"
    ]
