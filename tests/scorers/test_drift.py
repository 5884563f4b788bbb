"""Colours against earlier images: what stands out is told, what is a set's own is not."""

from __future__ import annotations

import numpy as np
import pytest

from sosie.scorers.looks.drift import FAR, LEAST, drifts

SEED = 5


def earlier(n: int = 60, spread: float = 3.0) -> dict[str, list[float]]:
    """Three colours of pictures whose saturation is about 15, their cast about (8, 12)."""
    random = np.random.default_rng(SEED)
    middles = {"saturation": 15.0, "green_red": 8.0, "blue_yellow": 12.0}
    return {name: random.normal(middle, spread, n).tolist() for name, middle in middles.items()}


@pytest.mark.parametrize(
    ("name", "by", "sign"), [("saturation", 20, 1), ("green_red", -20, -1), ("blue_yellow", 20, 1)]
)
def test_a_picture_far_from_the_others_is_told_with_its_direction(name: str, by: float, sign: int) -> None:
    before = earlier()
    values = {look: float(np.median(found)) for look, found in before.items()}
    (one,) = drifts({**values, name: values[name] + by}, before)
    assert (one.name, one.n, np.sign(one.deviations)) == (name, 60, sign)
    assert abs(one.deviations) > FAR


def test_pictures_of_the_same_set_are_not_told() -> None:
    before, more = earlier(200), np.random.default_rng(SEED + 1).normal(0, 3, (2000, 3))
    middles = np.array([15.0, 8.0, 12.0])
    told = [drifts(dict(zip(before, map(float, middles + row), strict=True)), before) for row in more]
    assert sum(map(bool, told)) <= 10


def test_a_set_that_has_outliers_itself_still_tells_them() -> None:
    before = earlier(30)
    before["blue_yellow"] += [60.0, 70.0, -50.0]
    (one,) = drifts({"blue_yellow": 45.0}, before)
    assert one.middle == pytest.approx(12, abs=2)


def test_a_picture_in_a_group_of_the_set_is_not_told_though_most_of_the_set_is_elsewhere() -> None:
    groups = [20.0, 21.0, 22.0] * 12 + [36.0, 37.0, 38.0] * 4  # two prompts of studio light, one of a sunset
    assert drifts({"blue_yellow": 37.5}, {"blue_yellow": groups}) == []
    assert drifts({"blue_yellow": 38.9}, {"blue_yellow": groups}) == []
    (one,) = drifts({"blue_yellow": 39.1}, {"blue_yellow": groups})
    assert one.deviations > FAR
    assert drifts({"blue_yellow": 10.0}, {"blue_yellow": groups})


def test_a_set_closer_together_than_anybody_sees_has_a_deviation_of_one() -> None:
    before = {"green_red": [20.0] * 40}
    assert drifts({"green_red": 23.9}, before) == []
    assert [one.deviations for one in drifts({"green_red": 24.1}, before)] == [pytest.approx(4.1)]


def test_a_picture_without_any_colour_is_told_among_pictures_of_many() -> None:
    (one,) = drifts({"saturation": 0.0}, {"saturation": earlier(60, 5.0)["saturation"]})
    assert one.deviations < -FAR


def test_few_earlier_images_and_a_look_without_a_value_are_not_compared() -> None:
    assert drifts({"saturation": 90.0}, {"saturation": [15.0] * (LEAST - 1)}) == []
    assert drifts({}, earlier()) == []
    assert drifts({"saturation": 90.0}, {}) == []
