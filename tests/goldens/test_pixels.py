"""The embedded model draws what it has always drawn, with every sampler, schedule, guide, LoRA and stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pixels
import pytest
from pixels import Case

pytestmark = [pytest.mark.local, pytest.mark.once]

TOLERANCE = 0.1
"""Levels (of 255) by which rounding may move a reduced picture on average.

With the same code, AVX2 in place of AVX-512, or SSE4.1 on one thread, move one by 0.016 at most; another seed by 10.
"""

BF16 = 4.0
"""The same for a picture drawn in bf16, which those move by up to 1.7."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pixels.DiffusersEngine]:
    made = pixels.open_engine(tmp_path_factory.mktemp("golden"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(pixels.FILE) as content:
        return dict(content)


@pytest.mark.parametrize("case", tuple(pixels.cases()), ids=lambda case: case.name)
def test_a_case_draws_its_recorded_picture(
    engine: pixels.DiffusersEngine, recorded: dict[str, np.ndarray], case: Case
) -> None:
    in_bf16 = any(stage.precision == "bf16" for stage in case.stages)
    pixels.as_recorded(engine, case, recorded, BF16 if in_bf16 else TOLERANCE)


def test_another_seed_moves_a_picture_far_beyond_the_tolerance(
    engine: pixels.DiffusersEngine, recorded: dict[str, np.ndarray]
) -> None:
    chosen = [case for case in pixels.cases() if case.name in ("euler-model", "dpmpp_2m-karras", "lcm-beta", "faceid")]
    for case in chosen:
        drawn = pixels.draw(engine, replace(case, seed=case.seed + 1))
        assert pixels.difference(pixels.reduced(drawn), recorded[f"{case.name}/image"]) > 50 * TOLERANCE


def test_every_case_is_recorded_once(recorded: dict[str, np.ndarray]) -> None:
    names = [case.name for case in pixels.cases()]
    assert len(names) == len(set(names))
    assert {key.rpartition("/")[0] for key in recorded} - {""} == set(names)
