"""Defect checks of large pictures look at parts or halves of them, and see the same."""

from __future__ import annotations

import importlib
import sys

import cv2
import numpy as np
import pytest
from places import ROOT

from sosie.core.score import Score
from sosie.scorers.defects import noise, patterns, score_defects
from sosie.scorers.sample import Sample

sys.path.insert(0, str(ROOT / "benchmarks"))
inject = importlib.import_module("inject")

QUICK = ("blank", "flat", "noise", "lines", "waves", "qr")


def render(width: int, height: int) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(ROOT / "examples" / "mira" / "00.jpg")), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def judged(image: np.ndarray) -> dict[str, Score]:
    return {score.name: score for score in score_defects(Sample(image), QUICK)}


def test_the_tiles_of_a_pattern_are_the_same_alone_and_in_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(inject.lines(render(640, 416), 6, 8))
    whole = list(patterns.levels(sample))
    monkeypatch.setattr(patterns, "_WHOLE", 639)
    tiles = list(patterns.levels(sample))
    assert [level.scale for level in tiles] == [level.scale for level in whole] == [1, 2, 4]
    assert np.array_equal(tiles[0].peaks, whole[0].peaks)
    assert np.array_equal(tiles[0].calm, whole[0].calm)
    for ours, theirs in zip(tiles[1:], whole[1:], strict=True):
        assert (ours.peaks != theirs.peaks).mean() < 0.003


def test_the_noise_of_a_large_picture_is_that_of_squares_spread_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample(inject.noise(render(1500, 1280), 8, 0))
    spread, _ = noise.noise_level(noise._spread(sample))  # pyright: ignore[reportPrivateUsage]
    whole, _ = noise.noise_level(sample.luma)
    assert noise._spread(sample).shape == (1024, 1024)  # pyright: ignore[reportPrivateUsage]
    assert spread == pytest.approx(whole, rel=0.05)
    monkeypatch.setattr(noise, "_SQUARES", 12)
    assert noise._spread(sample) is sample.luma  # pyright: ignore[reportPrivateUsage]


def test_a_large_clean_picture_has_no_defect_and_its_defects_are_found() -> None:
    large = render(3072, 2048)
    assert [score.name for score in judged(large).values() if not score.passed] == []
    assert judged(inject.lines(large, 8, 8))["lines"].passed is False
    assert judged(inject.waves(large, 8, 24, 288))["waves"].passed is False
    assert judged(inject.noise(large, 8, 0))["noise"].passed is False
    assert judged(inject.low_contrast(large, 0.05))["flat"].passed is False


def test_a_code_in_a_large_picture_is_found_where_it_is() -> None:
    large = render(3072, 2048)
    symbol = np.full((600, 600, 3), 255, np.uint8)
    large[1000:1600, 1800:2400] = inject.code(symbol, 560, 1.0, 1)
    found = judged(large)["qr"]
    assert found.value == 1
    place = [int(word.rstrip(",")) for word in found.reason.split() if word.rstrip(",").isdigit()]
    assert 1800 <= place[0] <= 1900
    assert 1000 <= place[1] <= 1100
