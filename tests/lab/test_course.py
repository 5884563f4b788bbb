"""The course of an experiment: what is drawn, looked at, decided, dropped, resumed, and what its result says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab_bench import CFG, GreyEngine, course, experiment, trial

from sosie.core import Finding, Plan
from sosie.core.errors import EngineError
from sosie.core.experiment_result import Design, ExperimentResult
from sosie.lab.assemble import Times, assemble
from sosie.lab.course import CellDone, Course, Looked
from sosie.lab.drawing import Q010, without_drawing
from sosie.lab.experiment import Arm
from sosie.lab.trial import Trial
from sosie.store import Store

DESIGN = Design("cfg=4", "grey", margin=0.02, clip=0.25, sd=0.07, every=4)


def cfg(plan: Plan) -> float:
    return plan.stages[0].sampler.cfg


def by_cfg(**values: float) -> Any:
    return lambda plan: values[f"c{cfg(plan):g}"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".sosie") as opened:
        yield opened


def finished(made: Course) -> ExperimentResult:
    for _ in made.run():
        pass
    return assemble(made, Times("2026-11-30T10:00:00+00:00", "2026-11-30T11:00:00+00:00"))


def on_grey(tmp_path: Path, store: Store, engine: GreyEngine, **changes: Any) -> Trial:
    return trial(tmp_path, experiment(**{"design": DESIGN, **changes}), engine, store)


def test_a_better_arm_is_found_a_worse_one_is_dropped_and_the_winner_is_confirmed_on_fresh_seeds(
    tmp_path: Path, store: Store
) -> None:
    engine = GreyEngine(by_cfg(c3=0.5, c4=0.7, c5=0.85))
    made = course(on_grey(tmp_path, store, engine))
    result = finished(made)
    verdicts = {one.name: one.verdict for one in result.contrasts}
    assert verdicts["cfg=5 against cfg=4"] == "better"
    assert result.arm("cfg=3").dropped is not None or verdicts["cfg=3 against cfg=4"] == "worse"
    assert result.winner is not None
    assert (result.winner.arm, result.winner.is_confirmed) == ("cfg=5", True)
    assert result.winner.fresh is not None
    fresh = {cell.seed for cell in result.cells if cell.fresh}
    assert fresh == set(result.fresh_seeds)
    assert fresh.isdisjoint(result.seeds)
    assert result.state == "finished"
    assert result.arm("cfg=3").blocks < result.blocks
    better = result.contrasts[1]
    assert better.low is not None
    assert better.high is not None
    assert better.low < 0.15 < better.high
    assert ExperimentResult.from_json(result.to_json()) == result


def test_equal_arms_are_never_called_better(tmp_path: Path, store: Store) -> None:
    wide = replace(DESIGN, margin=0.06)
    result = finished(course(on_grey(tmp_path, store, GreyEngine(lambda plan: 0.7, 0.004), design=wide)))
    assert {one.verdict for one in result.contrasts} == {"same"}
    assert result.winner is None
    assert result.arm("cfg=3").blocks < result.blocks


def test_what_is_drawn_is_not_drawn_again_and_the_result_is_the_same(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(by_cfg(c3=0.5, c4=0.7, c5=0.85))
    made = on_grey(tmp_path, store, engine)
    killed = course(made).run()
    for _ in range(9):
        next(killed)
    killed.close()
    drawn = len(engine.drawn)
    result = finished(course(made))
    assert len(engine.drawn) == len(set(engine.drawn))
    assert len(engine.drawn) > drawn
    other = GreyEngine(engine.effect)
    with Store.open(tmp_path / "other") as empty:
        straight = finished(course(on_grey(tmp_path, empty, other)))
    assert straight == result


def test_without_drawing_what_is_there_is_reported_and_the_state_says_that_it_is_not_all(
    tmp_path: Path, store: Store
) -> None:
    engine = GreyEngine(lambda plan: 0.7)
    made = on_grey(tmp_path, store, engine)
    looking = replace(
        made,
        lanes={
            n: replace(one, bench=replace(one.bench, engine=without_drawing(engine))) for n, one in made.lanes.items()
        },
    )
    assert finished(course(looking)).state == "empty"
    events = course(made).run()
    for _ in range(10):
        next(events)
    events.close()
    drawn = list(engine.drawn)
    result = finished(course(looking))
    assert (result.state, engine.drawn) == ("stopped", drawn)
    assert len(result.cells) == len(drawn)
    assert any("stopped after" in one for one in result.deviations)


def test_a_cell_that_fails_counts_the_floor_and_stops_nobody(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(lambda plan: 0.7)
    engine.fails = lambda plan: cfg(plan) == 5 and plan.requested.seed % 2 == 1
    made = on_grey(tmp_path, store, engine, seeds=(1, 2, 3, 4))
    result = finished(course(made))
    failed = [cell for cell in result.cells if cell.error is not None]
    assert {cell.arm for cell in failed} == {"cfg=5"}
    assert [cell.counted for cell in failed] == [0.2] * 4
    assert failed[0].error is not None
    assert failed[0].error.message == "seed 1 burst"
    assert result.arm("cfg=5").failed == 4
    assert result.arm("cfg=5").blocks == 8
    assert result.contrasts[1].n == 8
    engine.fails = lambda plan: False
    assert finished(course(made)).arm("cfg=5").failed == 0


def test_failures_of_earlier_commands_are_known_to_a_report(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(lambda plan: 0.7)
    engine.fails = lambda plan: cfg(plan) == 5 and plan.requested.seed == 1
    made = on_grey(tmp_path, store, engine, seeds=(1, 2))
    drawn = finished(course(made))
    known = {cell.plan: replace(cell.error, subject=cell.plan) for cell in drawn.cells if cell.error is not None}
    looking = replace(
        made,
        lanes={
            n: replace(one, bench=replace(one.bench, engine=without_drawing(engine))) for n, one in made.lanes.items()
        },
    )
    result = finished(course(looking, known))
    assert (result.state, result.arm("cfg=5").failed) == ("finished", 2)


def test_an_engine_that_fails_everywhere_ends_the_command(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(lambda plan: 0.7)
    engine.fails = lambda plan: True
    with pytest.raises(EngineError, match="8 cells failed one after another"):
        finished(course(on_grey(tmp_path, store, engine)))


def test_an_image_without_a_face_stays_in(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(by_cfg(c3=0.7, c4=0.7, c5=-1.0))
    result = finished(course(on_grey(tmp_path, store, engine, seeds=(1, 2, 3))))
    arm = result.arm("cfg=5")
    assert (arm.faceless, arm.failed) == (arm.blocks, 0)
    assert arm.endpoint is not None
    assert arm.endpoint.value == pytest.approx(0.2)
    assert any("could not be judged" in one for one in result.deviations)


def test_an_arm_that_checks_stopped_is_undecided_and_the_others_are_compared(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(lambda plan: 0.7)
    made = trial(tmp_path, experiment(design=DESIGN, seeds=(1, 2)), engine, store, stopped=["cfg=5"])
    result = finished(course(made))
    stopped, other = result.contrast("cfg=5 against cfg=4"), result.contrast("cfg=3 against cfg=4")
    assert stopped is not None
    assert other is not None
    assert (stopped.verdict, stopped.n) == ("undecided", 0)
    assert "SOS-R002" in stopped.note
    assert other.n == 4
    assert result.arm("cfg=5").blocks == 0


def test_by_axes_all_arms_with_a_level_are_averaged(tmp_path: Path, store: Store) -> None:
    axes = {"stages": {"generate": {"sampler": {"cfg": [3.0, 4.0], "steps": [8, 20]}}}}
    design = replace(DESIGN, baseline="cfg=4, steps=20", compare="axes")
    engine = GreyEngine(lambda plan: 0.5 + 0.2 * (cfg(plan) == 3) + 0.1 * (plan.stages[0].sampler.steps == 8))
    result = finished(course(on_grey(tmp_path, store, engine, axes=axes, design=design)))
    assert [(one.name, one.verdict) for one in result.contrasts] == [
        ("cfg=3 against cfg=4", "better"),
        ("steps=8 against steps=20", "better"),
    ]
    assert result.contrasts[0].arms == ("cfg=3, steps=8", "cfg=3, steps=20")
    assert result.winner is not None
    assert (result.winner.arm, result.winner.is_confirmed) == ("cfg=3, steps=8", True)


def test_with_one_look_at_the_end_nothing_is_said_before(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(by_cfg(c3=0.5, c4=0.7, c5=0.85))
    made = on_grey(tmp_path, store, engine, seeds=tuple(range(8)), design=replace(DESIGN, stopping="none"))
    events = list((running := course(made)).run())
    assert not [event for event in events if isinstance(event, Looked)]
    result = assemble(running, Times("", ""))
    assert [one.verdict for one in result.contrasts] == ["worse", "better"]
    assert all(one.n == 16 for one in result.contrasts)


def test_training_runs_are_the_unit_where_training_is_the_treatment(tmp_path: Path, store: Store) -> None:
    def arms(runs: int) -> tuple[Arm, ...]:
        return tuple(
            Arm(f"{name}{run}", treatment=name, change=change(base + run / 100))
            for name, base in (("plain", 3.0), ("captioned", 6.0))
            for run in range(runs)
        )

    def change(value: float) -> dict[str, object]:
        return {"stages": {"generate": {"sampler": {"cfg": value}}}}

    design = replace(DESIGN, baseline="plain0", unit="training run")
    engine = GreyEngine(lambda plan: 0.6 + 0.2 * (cfg(plan) > 5), 0.01)
    few = finished(course(on_grey(tmp_path, store, engine, axes={}, arms=arms(2), seeds=(1,), design=design)))
    many = finished(course(on_grey(tmp_path, store, engine, axes={}, arms=arms(3), seeds=(1,), design=design)))
    assert [(one.verdict, one.n, one.low) for one in few.contrasts] == [("undecided", 2, None)]
    assert "a test needs 3 runs" in few.contrasts[0].note
    assert few.contrasts[0].estimate == pytest.approx(0.2, abs=0.03)
    assert [(one.verdict, one.n) for one in many.contrasts] == [("better", 3)]


def test_every_look_is_after_whole_passes_and_every_arm_draws_the_same_blocks(tmp_path: Path, store: Store) -> None:
    engine = GreyEngine(lambda plan: 0.7)
    events = list(course(on_grey(tmp_path, store, engine, prompts=("a", "b", "c"), seeds=(1, 2, 3, 4))).run())
    assert [event.blocks for event in events if isinstance(event, Looked)] == [6, 12]
    cells = [event.cell for event in events if isinstance(event, CellDone)]
    blocks = {arm: {(one.prompt, one.seed) for one in cells if one.arm == arm} for arm in ("cfg=3", "cfg=4", "cfg=5")}
    assert blocks["cfg=3"] == blocks["cfg=4"] == blocks["cfg=5"]
    assert len(blocks["cfg=3"]) == 12


def test_a_failure_is_told_as_a_finding() -> None:
    assert isinstance(Q010.at("x", "y"), Finding)
    assert CFG
