"""The line with a real model and the real judges: to the bit what a run of one thing after another gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from serial_run import serial_run

from sosie.api.engines import open_engine
from sosie.api.outbox import Outbox
from sosie.core import Recipe, Request, Stage
from sosie.core.plan import needed_stages
from sosie.files.images import read_image
from sosie.loop.attempts import run
from sosie.loop.judge_room import Processes
from sosie.loop.judging import make_judge
from sosie.loop.task import Attempt, Bench, Task
from sosie.store import Store, pixels_digest
from sosie.workspace.bill import resolve
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

STEPS = 4


def quick(recipe: Recipe) -> Recipe:
    """`mini` in few steps, its body without a guide: some faces fail, and are repaired."""

    def few(stages: Sequence[Stage], keep: bool) -> tuple[Stage, ...]:
        return tuple(
            replace(stage, loras=(), guides=stage.guides if keep else (), sampler=replace(stage.sampler, steps=STEPS))
            for stage in stages
        )

    return replace(recipe, name="quick", stages=few(recipe.stages, False), repair=few(recipe.repair, True))


@pytest.mark.local
@pytest.mark.once
@pytest.mark.processes
def test_the_line_with_mini_and_its_judges_delivers_and_decides_to_the_bit_what_a_serial_run_does(
    workspace: Path, tmp_path: Path
) -> None:
    with Session(open_workspace(workspace)) as session, Store.open(tmp_path / "serial") as other:
        who = load_character(session.workspace, "mira")
        recipe = quick(load_recipe(session.workspace, "mini"))
        bill = resolve(session.workspace, needed_stages(recipe, who), who)
        judge, _ = make_judge(session, who, recipe, bill)
        assert len(judge.gate.judges) == 2
        request = Request("quick", "mira", "smiling, soft daylight, forest background", seed=7)
        tasks = [Task("t", recipe, who, request, 1, 2, judge)]
        (tmp_path / "out").mkdir()
        outbox = Outbox(session.store.begin_run("test", {}), tmp_path / "out")
        engine = open_engine(session, "diffusers", bill, who)
        with Processes(1) as room:
            events = run(tasks, Bench(engine, session.store, bill.digests, room, outbox.deliver))
            made = [event for event in events if isinstance(event, Attempt)]
        expected = list(serial_run(tasks, engine, other, bill.digests))
        engine.close()
    assert [facts(one) for one in made] == [facts(one) for one in expected]
    assert not any(one.resumed for one in (*made, *expected))
    assert any(one.plan.draw.is_repair for one in made)
    for one in made:
        assert (one.delivered is not None) == (one.verdict.outcome == "keep")
        assert one.delivered is None or pixels_digest(read_image(one.delivered)) == one.stored.pixels
    assert any(one.delivered for one in made)


def facts(one: Attempt) -> tuple[object, ...]:
    return one.plan.id, one.stored.pixels, one.scorecard, one.verdict
