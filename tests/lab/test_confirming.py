"""A winner is confirmed by seeds that cannot be drawn again: what was measured once counts for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_bench import GreyEngine, course, experiment, trial

from sosie.core import Plan
from sosie.core.experiment_result import Design, ExperimentResult
from sosie.lab.assemble import Times, assemble
from sosie.lab.blocks import fresh_seeds
from sosie.lab.confirming import Pairs, Tried, confirmed
from sosie.lab.questions import Question
from sosie.store import Store

DESIGN = Design("cfg=4", "grey", margin=0.02, clip=0.25, sd=0.07, every=4, confirm=6)
TWO = {"stages": {"generate": {"sampler": {"cfg": [4.0, 5.0]}}}}
ASKED = Question("a against b", ("a",), ("b",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".sosie") as opened:
        yield opened


def better(plan: Plan) -> float:
    return 0.85 if plan.stages[0].sampler.cfg == 5 else 0.7


def lucky(plan: Plan) -> float:
    """Better on the seeds that choose, and on no other."""
    return better(plan) if plan.requested.seed < 1000 else 0.7


def found(
    folder: Path,
    store: Store,
    engine: GreyEngine,
    earlier: Sequence[ExperimentResult] = (),
    hour: int = 10,
    **asked: Any,
) -> ExperimentResult:
    made = course(trial(folder, experiment(**{"design": DESIGN, "axes": TWO, **asked}), engine, store))
    made.earlier = lambda: earlier
    for _ in made.run():
        pass
    return assemble(made, Times(f"2026-11-30T{hour}:00:00+00:00", f"2026-11-30T{hour}:30:00+00:00"))


def blocks(result: ExperimentResult) -> int:
    assert result.winner is not None
    assert result.winner.fresh is not None
    return result.winner.fresh.n


def test_a_failed_confirmation_is_the_same_whatever_else_is_asked_anew(tmp_path: Path, store: Store) -> None:
    first = found(tmp_path, store, GreyEngine(lucky))
    assert first.winner is not None
    assert not first.winner.is_confirmed
    asked = {"question": "Is it?", "seeds": tuple(range(2, 30)), "design": replace(DESIGN, margin=0.03, every=2)}
    again = found(tmp_path, store, GreyEngine(lucky), (first,), 11, **asked)
    assert again.id != first.id
    assert again.fresh_seeds == first.fresh_seeds
    assert (blocks(first), blocks(again)) == (12, 12)


def test_more_fresh_seeds_go_on_where_the_earlier_ones_ended(tmp_path: Path, store: Store) -> None:
    first = found(tmp_path, store, GreyEngine(lucky))
    longer = found(tmp_path, store, GreyEngine(lucky), (first,), 11, design=replace(DESIGN, confirm=9))
    assert longer.fresh_seeds[:6] == first.fresh_seeds
    assert blocks(longer) == 18
    assert any("count those of cfg-" in text for text in longer.deviations)


def test_another_recipe_under_the_same_names_does_not_wipe_out_a_failed_try(tmp_path: Path, store: Store) -> None:
    first = found(tmp_path, store, GreyEngine(lucky))
    other = {"stages": {"generate": {"sampler": {"steps": 21}}}}
    second = found(tmp_path, store, GreyEngine(better), (first,), 11, change=other)
    assert second.winner is not None
    assert second.fresh_seeds != first.fresh_seeds
    assert second.winner.earlier == (first.id,)
    assert blocks(second) == 24
    alone = found(tmp_path, store, GreyEngine(better), (), 11, change=other)
    assert alone.winner is not None
    assert alone.winner.fresh is not None
    assert second.winner.fresh is not None
    assert alone.winner.is_confirmed
    assert (second.winner.fresh.estimate or 1) < (alone.winner.fresh.estimate or 0) - 0.05


def test_arms_by_another_name_are_the_same_confirmation(tmp_path: Path, store: Store) -> None:
    from sosie.lab.experiment import Arm

    def change(value: float) -> dict[str, object]:
        return {"stages": {"generate": {"sampler": {"cfg": value}}}}

    def named(*names: str) -> tuple[Arm, ...]:
        return tuple(Arm(name, change=change(value)) for name, value in zip(names, (4.0, 5.0), strict=True))

    design = replace(DESIGN, baseline="plain")
    first = found(tmp_path, store, GreyEngine(lucky), axes={}, arms=named("plain", "mine"), design=design)
    again = found(tmp_path, store, GreyEngine(lucky), (first,), 11, axes={}, arms=named("plain", "new"), design=design)
    assert again.fresh_seeds == first.fresh_seeds
    assert again.winner is not None
    assert again.winner.earlier == (first.id,)


def test_few_blocks_confirm_nothing(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(lambda plan: 0.95 if plan.stages[0].sampler.cfg == 5 else 0.4, 0.001)
    few = found(tmp_path, store, engine, design=replace(DESIGN, confirm=3))
    enough = found(tmp_path, store, engine, (few,), 11, design=replace(DESIGN, confirm=4))
    assert few.winner is not None
    assert few.winner.fresh is not None
    assert (few.winner.is_confirmed, few.winner.fresh.n) == (False, 6)
    assert few.winner.fresh.note == "6 fresh blocks are fewer than 8"
    assert enough.winner is not None
    assert enough.winner.is_confirmed


def test_who_tries_until_it_is_confirmed_is_wrong_in_few_worlds() -> None:
    worlds, pooled, each = 40, 0, 0
    for world in range(worlds):
        random = np.random.default_rng(world)
        before = [Tried(f"{number}", 0.25, _even(random, number)) for number in range(16)]
        pooled += any(_is_better(before[number].pairs, before[:number]) for number in range(16))
        each += any(_is_better(one.pairs, ()) for one in before)
    assert pooled / worlds <= 0.05
    assert each / worlds > 0.05, "counted each by itself, so many tries do confirm what is not so"


def _even(random: np.random.Generator, number: int) -> Pairs:
    """Differences as large as the clip lets them be, on both sides alike."""
    sides = random.choice([-0.25, 0.25], 12)
    return {((f"{number}", f"{block}"), ("b", "")): float(side) for block, side in enumerate(sides)}


def _is_better(own: Pairs, before: Sequence[Tried]) -> bool:
    return confirmed(DESIGN, ASKED, own, before).verdict == "better"


def test_the_clip_of_the_first_try_stays() -> None:
    own = {((f"{block}", ""), ("b", "")): 0.4 for block in range(8)}
    first = Tried("first", 0.1, {(("x", ""), ("y", "")): -0.4})
    again = confirmed(DESIGN, ASKED, own, [first])
    assert again.estimate == pytest.approx((8 * 0.1 - 0.1) / 9)


def test_fresh_seeds_are_none_of_those_that_chose() -> None:
    key = "0123456789abcdef" * 4
    first = fresh_seeds((), 4, key)
    assert fresh_seeds(first[:2], 2, key) == first[2:]
