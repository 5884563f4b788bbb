"""The loop: attempts until enough is kept, every one recorded, none made twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sosie.core import (
    Acceptance,
    Character,
    Environment,
    Finding,
    Plan,
    Progress,
    Recipe,
    Render,
    Request,
    Score,
    Scorecard,
    Stage,
    Verdict,
)
from sosie.core.errors import EngineError
from sosie.loop.attempts import run
from sosie.loop.judge import Judge, Origin
from sosie.loop.task import Attempt, Bench, Task
from sosie.scorers.identity import Gate
from sosie.store import Store

RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)
MIRA = Character("mira", "fictional", True)
ENVIRONMENT = Environment("3", "any", "none", ())


class CountingEngine:
    """Renders noise of the plan's seed; breaks after `limit` images."""

    name = "counting"

    def __init__(self, limit: int = 1000) -> None:
        self.made: list[str] = []
        self.limit = limit

    def check(self, plan: Plan) -> list[Finding]:
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        for plan in plans:
            if len(self.made) >= self.limit:
                raise EngineError("broken on purpose")
            self.made.append(plan.id)
            noise = np.random.default_rng(plan.seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            yield Render(Image.fromarray(noise), plan, self.name, ENVIRONMENT, 0.1)

    def close(self) -> None:
        pass


class EveryThird:
    """A judge that keeps an image if its first pixel says so: one in three."""

    id = "gate"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Image.Image, origin: Origin) -> tuple[Scorecard, Verdict]:
        self.calls += 1
        value = float(np.asarray(image)[0, 0, 0])
        passed = value % 3 == 0
        card = Scorecard((Score("defect", "pixel", value, 0.0, passed),))
        return card, Verdict("keep") if passed else Verdict("retry", ("pixel",))


def attempts(store: Store, engine: CountingEngine, judge: Any, n: int = 4, budget: int = 32) -> list[Attempt]:
    task = Task("t", RECIPE, MIRA, Request("r", "mira", "x", seed=5), n, budget, judge)
    return [event for event in run([task], Bench(engine, store, {"m": "0" * 64})) if isinstance(event, Attempt)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".sosie") as opened:
        yield opened


def test_the_loop_stops_when_n_images_are_kept(store: Store) -> None:
    made = attempts(store, CountingEngine(), EveryThird())
    kept = [item for item in made if item.verdict.outcome == "keep"]
    assert sorted(item.plan.draw.index for item in kept) == [0, 1, 2, 3]
    assert len(made) > 4


def test_a_retry_names_the_plan_that_it_replaces(store: Store) -> None:
    made = attempts(store, CountingEngine(), EveryThird())
    by_id = {item.plan.id: item for item in made}
    retries = [item for item in made if item.plan.draw.attempt]
    assert retries
    for item in retries:
        parent = by_id[item.plan.draw.parent]
        assert parent.verdict.outcome == "retry"
        assert (parent.plan.draw.index, parent.plan.draw.attempt + 1) == (item.plan.draw.index, item.plan.draw.attempt)


def test_the_budget_is_never_exceeded(store: Store) -> None:
    judge = EveryThird()
    judge.__class__ = type(
        "Never", (EveryThird,), {"__call__": lambda self, image, origin: (Scorecard(()), Verdict("retry", ("no",)))}
    )
    made = attempts(store, CountingEngine(), judge, n=3, budget=7)
    assert len(made) == 7
    assert {item.verdict.outcome for item in made} == {"retry"}


def test_the_same_command_again_renders_and_scores_nothing(store: Store) -> None:
    first = attempts(store, CountingEngine(), EveryThird())
    engine, judge = CountingEngine(), EveryThird()
    again = attempts(store, engine, judge)
    assert (engine.made, judge.calls) == ([], 0)
    assert [(a.plan.id, a.verdict, a.scorecard, a.stored.pixels) for a in again] == [
        (a.plan.id, a.verdict, a.scorecard, a.stored.pixels) for a in first
    ]
    assert all(item.resumed for item in again)


def test_a_broken_run_goes_on_where_it_stopped_and_ends_the_same(store: Store, tmp_path: Path) -> None:
    broken, engine = CountingEngine(limit=3), CountingEngine()
    with pytest.raises(EngineError):
        attempts(store, broken, EveryThird())
    resumed = attempts(store, engine, EveryThird())
    with Store.open(tmp_path / "other") as other:
        straight = attempts(other, CountingEngine(), EveryThird())
    assert [item.plan.id for item in resumed] == [item.plan.id for item in straight]
    assert len(broken.made) == 3
    assert not set(broken.made) & set(engine.made)


def test_new_rules_judge_the_stored_images_again_without_rendering(store: Store) -> None:
    attempts(store, CountingEngine(), EveryThird())
    engine, judge = CountingEngine(), EveryThird()
    judge.id = "another gate"
    made = attempts(store, engine, judge)
    assert engine.made == []
    assert judge.calls == len(made)


def test_every_task_is_judged_by_its_own_judge(store: Store) -> None:
    one, other = EveryThird(), EveryThird()
    other.id = "another gate"
    task = Task("t", RECIPE, MIRA, Request("r", "mira", "x", seed=5), 2, 9, one)  # type: ignore[arg-type]
    tasks = [task, replace(task, request=replace(task.request, seed=6), judge=other)]  # type: ignore[arg-type]
    made = [
        event for event in run(tasks, Bench(CountingEngine(), store, {"m": "0" * 64})) if isinstance(event, Attempt)
    ]
    by_task = [[item for item in made if item.task is each] for each in tasks]
    assert [one.calls, other.calls] == [len(each) for each in by_task]
    for judge, attempts_ in zip((one, other), by_task, strict=True):
        assert all(store.find_scorecard(item.stored.id, judge.id) for item in attempts_)
    assert store.find_scorecard(by_task[0][0].stored.id, other.id) is None


def test_another_seed_is_other_work(store: Store) -> None:
    engine = CountingEngine()
    judge = EveryThird()
    task = Task("t", RECIPE, MIRA, Request("r", "mira", "x", seed=5), 1, 3, judge)
    bench = Bench(engine, store, {"m": "0" * 64})
    list(run([task, replace(task, request=replace(task.request, seed=6))], bench))
    assert len(set(engine.made)) == len(engine.made)
    assert Acceptance().fmr == RECIPE.acceptance.fmr


MENDING = replace(RECIPE, repair=(Stage("detail", "sdxl", "m"),))


class Mender(EveryThird):
    """Every image fails by its identity alone; a repaired one passes if `mends`."""

    def __init__(self, mends: bool) -> None:
        super().__init__()
        self.mends = mends
        self.origins: list[Origin] = []

    def __call__(self, image: Image.Image, origin: Origin) -> tuple[Scorecard, Verdict]:
        self.origins.append(origin)
        card = Scorecard((Score("identity", "eye", 0.1, 0.5, False),))
        if origin.is_repair:
            return card, Verdict("keep") if self.mends else Verdict("retry", ("eye",))
        return card, Verdict("repair", ("eye",))


def mended(store: Store, judge: Mender) -> list[Attempt]:
    task = Task("t", MENDING, MIRA, Request("r", "mira", "x", seed=5), 1, 4, judge)
    events = run([task], Bench(CountingEngine(), store, {"m": "0" * 64}))  # type: ignore[arg-type]
    return [event for event in events if isinstance(event, Attempt)]


def test_a_face_is_repaired_on_its_own_image_before_a_new_one_is_drawn(store: Store) -> None:
    body, repair = mended(store, Mender(mends=True))
    assert repair.plan.source == body.stored.pixels
    assert repair.plan.draw.parent == body.plan.id
    assert [stage.kind for stage in repair.plan.stages] == ["detail"]
    assert repair.verdict.outcome == "keep"


def test_a_repair_that_fails_is_followed_by_a_new_image_not_by_another_repair(store: Store) -> None:
    made = mended(store, Mender(mends=False))
    assert [item.plan.draw.is_repair for item in made] == [False, True, False, True]
    assert [item.plan.draw.attempt for item in made] == [0, 1, 2, 3]
    assert len({item.plan.seed for item in made}) == 4


class Untouched(CountingEngine):
    """Gives the image back as it was, and says why."""

    def __init__(self, source: Image.Image) -> None:
        super().__init__()
        self.source = source

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        said = (Finding("SOS-E021", "warning", "mira", "the face is too small"),)
        for plan in plans:
            measures = (("detail.seam", 0.5), ("detail.x", 0.75), ("detail.y", 0.25))
            yield Render(self.source, plan, self.name, ENVIRONMENT, 0.1, said, measures)


def test_a_given_image_that_no_stage_could_change_is_not_tried_again(store: Store) -> None:
    source = Image.new("RGB", (64, 64), (9, 9, 9))
    request = Request("r", "mira", "x", source=store.add_source(source), width=64, height=64)
    judge = FinalJudge()
    task = Task("t", MENDING, MIRA, request, 1, 8, judge)  # type: ignore[arg-type]
    events = run([task], Bench(Untouched(source), store, {"m": "0" * 64}))  # type: ignore[arg-type]
    made = [event for event in events if isinstance(event, Attempt)]
    assert [item.verdict.outcome for item in made] == ["reject"]
    assert judge.origins[0].findings[0].code == "SOS-E021"
    assert judge.origins[0].face == (0.75, 0.25)


class FinalJudge(Mender):
    """Asks for a retry unless the origin says that it is useless."""

    def __init__(self) -> None:
        super().__init__(mends=False)

    def __call__(self, image: Image.Image, origin: Origin) -> tuple[Scorecard, Verdict]:
        self.origins.append(origin)
        return Scorecard(()), Verdict("reject" if origin.is_final else "retry", ("no",))


SEEN = Score("identity", "sface", 0.4, 0.6, False, "sface 0.400 is below 0.600")
UNSEEN = Score("identity", "sface", None, 0.6, None, "no face was found")
FLAW = Score("defect", "noise", 0.4, 0.1, False)


@pytest.mark.parametrize(
    ("scores", "origin", "outcome"),
    [
        ((SEEN,), Origin(), "repair"),
        ((SEEN,), Origin(is_repair=True), "retry"),
        ((SEEN, FLAW), Origin(), "retry"),
        ((UNSEEN,), Origin(), "retry"),
        ((SEEN,), Origin((Finding("SOS-E023", "error", "mira", "a seam shows"),)), "retry"),
        ((SEEN,), Origin(is_final=True), "reject"),
        ((replace(SEEN, passed=True),), Origin((Finding("SOS-E023", "error", "mira", "a seam shows"),)), "retry"),
        ((replace(SEEN, passed=True),), Origin((Finding("SOS-E021", "warning", "mira", "small"),)), "keep"),
    ],
)
def test_only_an_image_that_fails_by_its_face_alone_is_repaired(
    scores: tuple[Score, ...], origin: Origin, outcome: str
) -> None:
    gate = Gate((), {"sface": "not installed"})
    judge = Judge(None, gate, Acceptance(judges=("sface",)), mends=True)  # type: ignore[arg-type]
    assert judge.verdict(Scorecard(scores), origin).outcome == outcome
    if outcome == "repair":
        assert replace(judge, mends=False).verdict(Scorecard(scores), origin).outcome == "retry"
