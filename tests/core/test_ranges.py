"""Ranges stand at the fields that they bound, and name the place, the value and what was expected."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from places import ROOT

from sosie.core import Detail, Guide, Keypoints, Sampler, Stage, Upscale
from sosie.core.ranges import Range, out_of_range
from sosie.core.recipe import Training
from sosie.core.schema import digest
from sosie.workspace.recipes import read_recipe


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Range(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    count: Annotated[int, Range(1, 1000)] = 1
    free: float = -1.0
    inner: Inner = field(default_factory=Inner)
    more: tuple[Inner, ...] = ()
    none: Inner | None = None


@pytest.mark.parametrize(
    ("bounds", "held", "others", "complaint"),
    [
        (Range(1, 1000), (1, 1000), (0, 1001, -math.inf), "is not 1 to 1000"),
        (Range(0, 1, above=True), (1e-9, 1), (0, 1.1), "is not above 0 and at most 1"),
        (Range(0, 1, below=True), (0, 0.999), (1, -0.1), "is not 0 to below 1"),
        (Range(0, 1, above=True, below=True), (0.5,), (0, 1), "is not between 0 and 1"),
        (Range(0), (0, 1e300), (-1e-9,), "is below 0"),
        (Range(0, above=True), (1e-9, math.inf), (0,), "is not above 0"),
        (Range(64, 2048, step=8), (64, 72, 2048), (65, 2049, 2056, 56), "is not 64 to 2048 and a multiple of 8"),
        (Range(0, 2**63 - 1), (0, 2**63 - 1), (2**63, -1), "is not 0 to 9223372036854775807"),
        (Range(0.01, 100), (0.01,), (0.009,), "is not 0.01 to 100"),
    ],
)
def test_a_range_holds_its_numbers_and_says_what_it_expected(
    bounds: Range, held: tuple[float, ...], others: tuple[float, ...], complaint: str
) -> None:
    assert all(map(bounds.holds, held))
    assert not any(map(bounds.holds, (*others, math.nan)))
    assert bounds.complaint == complaint


def test_a_value_is_named_with_its_place_wherever_it_stands() -> None:
    assert list(out_of_range(Outer(), "")) == []
    wrong = Outer(0, inner=Inner(2.0), more=(Inner(), Inner(-1.0)))
    assert list(out_of_range(wrong, "")) == [
        "count = 0 is not 1 to 1000",
        "inner.share = 2 is not 0 to 1",
        "more[1].share = -1 is not 0 to 1",
    ]
    assert next(out_of_range(wrong, "stages[3]")) == "stages[3].count = 0 is not 1 to 1000"


@pytest.mark.parametrize(
    ("noun", "complaint"),
    [
        (Keypoints("net", start=0.5, end=0.5), "x.start = 0.5 is not below end = 0.5"),
        (Sampler(cfg_start=0.6, cfg_end=0.6), "x.cfg_start = 0.6 is not below cfg_end = 0.6"),
        (Guide("pose", start=0.5, end=0.5), "x.start = 0.5 is not below end = 0.5"),
        (Upscale(tile=64, overlap=32), "x.overlap = 32 is not below half a tile"),
        (Training(steps=10, warmup=10), "x.warmup = 10 is not below steps = 10"),
        (Detail(size=1001), "x.size = 1001 is not 64 to 2048 and a multiple of 8"),
    ],
)
def test_fields_that_bound_each_other_are_compared(noun: object, complaint: str) -> None:
    assert list(out_of_range(noun, "x")) == [complaint]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_in_range(path: Path) -> None:
    assert list(out_of_range(read_recipe(path), "")) == []


def test_ranges_are_no_part_of_what_is_hashed() -> None:
    # The digest of the same stage before its fields had ranges.
    assert (
        digest(Stage("generate", "sdxl", "mini")) == "90f6423aa60cead051c94d0b89a03f8c7b1daf39146765aadd63bb133a449bf8"
    )
