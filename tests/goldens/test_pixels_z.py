"""The second embedded model draws what it has drawn, with the samplers, schedules, shifts and LoRA that are its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pixels
import pixels_z
import pytest
from pixels import Case
from test_pixels import TOLERANCE

pytestmark = [pytest.mark.local, pytest.mark.once]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pixels.DiffusersEngine]:
    made = pixels_z.open_engine(tmp_path_factory.mktemp("golden"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(pixels_z.FILE) as content:
        return dict(content)


@pytest.mark.parametrize("case", tuple(pixels_z.cases()), ids=lambda case: case.name)
def test_a_case_of_mini_z_draws_its_recorded_picture(
    engine: pixels.DiffusersEngine, recorded: dict[str, np.ndarray], case: Case
) -> None:
    pixels.as_recorded(engine, case, recorded, TOLERANCE)


def test_another_seed_moves_a_picture_of_mini_z_far_beyond_the_tolerance(
    engine: pixels.DiffusersEngine, recorded: dict[str, np.ndarray]
) -> None:
    case = next(pixels_z.cases())
    drawn = pixels.draw(engine, replace(case, seed=case.seed + 1))
    assert pixels.difference(pixels.reduced(drawn), recorded[f"{case.name}/image"]) > 50 * TOLERANCE


def test_every_case_of_mini_z_is_recorded_once_and_no_two_are_one_picture(recorded: dict[str, np.ndarray]) -> None:
    names = [case.name for case in pixels_z.cases()]
    assert {key.rpartition("/")[0] for key in recorded} - {""} == set(names)
    assert len({str(recorded[f"{name}/digest"]) for name in names}) == len(names)
