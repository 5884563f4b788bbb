"""The watermark: read after what platforms do to a picture, and never of a picture that has none."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import EXAMPLES

from sosie.core import Character, Marking, Recipe, Request, Stage, plan
from sosie.core.plan import Draw
from sosie.provenance.watermark import ALARM, BITS, Reading, best_match, find, mark

Sosie = Callable[..., Any]

PLANS = tuple(hashlib.sha256(str(number).encode()).hexdigest() for number in range(1000))
PLAN = PLANS[7]


def picture(side: int = 512) -> Image.Image:
    return Image.open(EXAMPLES / "00.jpg").convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


@pytest.fixture(scope="module")
def marked() -> Image.Image:
    return mark(picture(), PLAN)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("as it is", lambda image: image),
        ("JPEG 80", lambda image: jpeg(image, 80)),
        ("JPEG 60", lambda image: jpeg(image, 60)),
        ("half its size in JPEG 80", lambda image: jpeg(image.resize((256, 256)), 80)),
        ("a part", lambda image: image.crop((61, 87, 433, 455))),
    ],
)
def test_the_mark_is_read_after_what_platforms_do(
    what: str, change: Callable[[Image.Image], Image.Image], marked: Image.Image
) -> None:
    match = find(change(marked), PLANS, [(512, 512)], scan=False)
    assert match is not None, what
    assert match.plan_id == PLAN
    assert match.alarm <= ALARM
    assert match.right >= 0.8 * BITS


@pytest.mark.once
def test_a_screenshot_of_unknown_scale_is_read(marked: Image.Image) -> None:
    page = Image.new("RGB", (760, 700), (240, 240, 242))
    page.paste(marked.resize((594, 594), Image.Resampling.BICUBIC), (83, 53))
    match = find(page, PLANS)
    assert match is not None
    assert match.plan_id == PLAN


def test_a_picture_without_the_mark_is_no_plans() -> None:
    assert find(picture(), PLANS, [(512, 512)], scan=False) is None
    assert find(mark(picture(), "f" * 64), PLANS, scan=False) is None
    assert find(picture(64), PLANS) is None
    assert find(mark(picture(), PLAN), ()) is None


def test_a_second_mark_takes_the_place_of_the_first(marked: Image.Image) -> None:
    again = find(mark(marked, PLANS[8]), PLANS, scan=False)
    assert again is not None
    assert again.plan_id == PLANS[8]


def test_the_mark_is_faint_and_leaves_transparency() -> None:
    given_ = picture().convert("RGBA")
    given_.putalpha(Image.linear_gradient("L").resize(given_.size))
    made = mark(given_, PLAN)
    assert np.array_equal(np.asarray(made.getchannel("A")), np.asarray(given_.getchannel("A")))
    error = np.asarray(made.convert("RGB"), float) - np.asarray(given_.convert("RGB"), float)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 40


def test_the_bound_on_false_alarms_holds_whatever_a_picture_shows() -> None:
    rng = np.random.default_rng(3)
    signs = np.array([[1 if bit == "1" else -1 for bit in f"{int(plan_id[:16], 16):064b}"] for plan_id in PLANS])
    for shape in (rng.normal(size=BITS), np.ones(BITS), np.eye(BITS)[0] + 0.01, np.arange(BITS) ** 3.0):
        fits = signs @ (shape / np.linalg.norm(shape))
        for least in (1.5, 2.5, 3.5):
            assert (fits >= least).mean() <= np.exp(-(least**2) / 2)
        assert best_match(Reading(tuple(shape.tolist()), 9.0), PLANS) is None
    own = Reading(tuple((signs[7] + rng.normal(size=BITS) * 0.3).tolist()), 9.0)
    found = best_match(own, PLANS)
    assert found is not None
    assert (found.plan_id, found.right) == (PLAN, BITS)
    assert best_match(own, PLANS, tried=10**9) is None  # so many tries would find it by chance


def test_a_plan_without_a_watermark_has_the_id_that_it_always_had() -> None:
    who = Character("mira", "fictional", True)
    recipe = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 256, 256)
    bare = plan(recipe, who, Request("r", "mira"), Draw(), {"m": ""})
    with_mark = plan(replace(recipe, provenance=Marking(watermark=True)), who, Request("r", "mira"), Draw(), {"m": ""})
    assert bare.id == "84985e753b6a985bf87f47dd7b7d1ed21d9fe9f4e4738187999cf994e9311d31"
    assert with_mark.id != bare.id
    assert type(bare).from_json(with_mark.to_json()) == with_mark


def test_verify_names_the_plan_when_a_platform_took_the_manifest_away(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    base = ("--workspace", workspace)
    assert sosie("recipe", "copy", "mini", "marked", *base).code == 0
    recipe = workspace / "recipes" / "marked.toml"
    text = recipe.read_text(encoding="utf-8").replace("width = 256\nheight = 256", "width = 512\nheight = 512")
    recipe.write_text(text + "\n[provenance]\nwatermark = true\n", encoding="utf-8")
    made = sosie(
        "generate", "mira", "--recipe", "marked", "--engine", "fake", "--out", tmp_path / "out", "--json", *base
    )
    row = json.loads(made.out.splitlines()[0])
    with Image.open(row["image"]) as image:
        stored = next((workspace / ".sosie" / "images").rglob("*.png"))
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(stored)))  # what was judged is delivered
        image.convert("RGB").save(tmp_path / "platform.jpg", quality=80)
    told = sosie("verify", tmp_path / "platform.jpg", "--json", *base)
    report = json.loads(told.out)
    assert told.code == 1
    assert (report["state"], report["watermark"]) == ("absent", row["plan"])
    assert [one["code"] for one in report["findings"]] == ["SOS-P003", "SOS-P013"]
    assert any(row["plan"][:12] in text for text in report["proves"])
