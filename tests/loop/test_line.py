"""The line: images are drawn, stored, judged and delivered at once, and the record is that of a serial run."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serial_run import serial_run

from sosie.core import (
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
from sosie.core.errors import DeliveryError, EngineError, StoreError
from sosie.core.feed import feed_of
from sosie.loop.attempts import Happening, run
from sosie.loop.judge import Origin
from sosie.loop.judge_room import Here, Judged, Sitting
from sosie.loop.schedule import Schedule
from sosie.loop.task import Attempt, Bench, Drawn, Task
from sosie.store import Store

STAGE = Stage("generate", "sdxl", "m")
RECIPE = Recipe("r", (STAGE,), "{prompt}", 64, 64, repair=(STAGE,))
ASSETS = {"m": "0" * 64}


class Painter:
    """Paints noise of the plan's seed, `lanes` plans at a time; with `pause`, in up to so many seconds each."""

    name = "painter"

    def __init__(self, lanes: int = 1, pause: float = 0.0) -> None:
        self.lanes, self.pause = lanes, pause
        self.asked: list[str] = []
        self.painted: list[str] = []
        self.closed = 0

    def check(self, plan: Plan) -> list[Finding]:
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        feed, begun = feed_of(plans), list[Plan]()
        try:
            while not feed.ended:
                while len(begun) < self.lanes and (plan := feed.take(0.02)) is not None:
                    self.asked.append(plan.id)
                    begun.append(plan)
                if begun:
                    yield Progress("generate", 1, 2)
                    time.sleep(self.pause)
                    plan = begun.pop(random.randrange(len(begun)))
                    self.painted.append(plan.id)
                    yield Render(noise(plan), plan, self.name, Environment("3", "any", "none", ()), 0.1)
        finally:
            self.closed += 1

    def close(self) -> None:
        pass


def noise(plan: Plan) -> Image.Image:
    pixels = np.random.default_rng(plan.seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class Dice:
    """Decides by an image's first pixels, of 256: so many are kept, and of the others so many repaired."""

    id = "dice"

    def __init__(self, kept: int = 85, repaired: int = 0) -> None:
        self.kept, self.repaired = kept, repaired

    def __call__(self, image: Image.Image, origin: Origin) -> tuple[Scorecard, Verdict]:
        first, second, _ = np.asarray(image)[0, 0].tolist()
        card = Scorecard((Score("defect", "pixel", float(first), 1.0, first < self.kept),))
        if first < self.kept:
            return card, Verdict("keep")
        repair = not origin.is_repair and second < self.repaired
        return card, Verdict("repair" if repair else "retry", ("pixel",))


class Hall:
    """Three judges, each of whom takes a while."""

    places = 3

    def __init__(self, pause: float = 0.01) -> None:
        self.pause = pause
        self.most = self.now = 0
        self._pool, self._lock = ThreadPoolExecutor(3), threading.Lock()

    def open(self, judge: Any) -> None:
        pass

    def submit(self, sitting: Sitting) -> Future[Judged]:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        return self._pool.submit(self._judge, sitting)

    def _judge(self, sitting: Sitting) -> Judged:
        time.sleep(random.uniform(0, 2 * self.pause))
        judged = Here().submit(sitting).result()
        with self._lock:
            self.now -= 1
        return judged


def task(judge: Any, n: int = 4, budget: int = 32, seed: int = 5) -> Task:
    request = Request("r", "mira", "x", seed=seed)
    return Task(f"t{seed}", RECIPE, Character("mira", "fictional", True), request, n, budget, judge)


def attempts(events: Iterable[Happening]) -> list[Attempt]:
    return [event for event in events if isinstance(event, Attempt)]


def shape(made: Iterable[Attempt]) -> list[Any]:
    return [(one.task.name, one.plan.id, one.stored.pixels, one.scorecard, one.verdict) for one in made]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".sosie") as opened:
        yield opened


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lanes", [1, 3])
def test_what_the_line_records_is_what_a_serial_run_records(seed: int, lanes: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    judge = Dice(dice.choice((25, 85, 200)), dice.choice((0, 128)))
    tasks = [task(judge, n := dice.randint(1, 6), n * dice.randint(1, 4), at) for at in (seed, seed + 100, seed)]
    with Store.open(tmp_path / "line") as one, Store.open(tmp_path / "serial") as other:
        painter = Painter(lanes)
        made = attempts(run(tasks, Bench(painter, one, ASSETS, Hall())))
        expected = list(serial_run(tasks, Painter(), other, ASSETS))
        assert shape(made) == shape(expected)
        assert len(set(painter.asked)) == len(painter.asked)
        assert {item.plan.id for item in expected} <= set(painter.painted)
        assert len(painter.painted) == one.counts()["renders"]
        again = Painter()
        assert shape(run_again := attempts(run(tasks, Bench(again, one, ASSETS)))) == shape(expected)
        assert all(item.resumed for item in run_again)
        assert again.painted == []


class Collects(Painter):
    """Wants all plans before it draws the first; with `most`, so many at a time."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.most = most

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        waiting = iter(plans)
        while batch := list(islice(waiting, self.most)):
            for plan in batch:
                self.painted.append(plan.id)
                yield Render(noise(plan), plan, self.name, Environment("3", "any", "none", ()), 0.1)
        self.closed += 1


@pytest.mark.parametrize("most", [1000, 3])
def test_an_engine_that_wants_more_plans_before_it_draws_those_it_has_does_not_wait_for_ever(
    most: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sosie.loop.line.LONG", 0.02)
    tasks = [task(Dice(85), n=4), task(Dice(200), n=2, seed=7)]
    engine = Collects(most)
    made = attempts(run(tasks, Bench(engine, store, ASSETS, Hall())))
    with Store.open(tmp_path / "serial") as other:
        expected = list(serial_run(tasks, Painter(), other, ASSETS))
    assert shape(made) == shape(expected)
    assert len(expected) > 6  # some of the first attempts failed
    assert engine.closed > 1  # it was run again for what followed
    assert len(set(engine.painted)) == len(engine.painted)


def test_images_are_judged_while_others_are_drawn_and_few_are_in_flight(store: Store) -> None:
    hall = Hall(0.03)
    events = list(run([task(Dice(256), n=12)], Bench(Painter(pause=0.005), store, ASSETS, hall)))
    assert 1 < hall.most <= hall.places + 2
    drawn = [isinstance(event, Drawn) for event in events if isinstance(event, Drawn | Attempt)]
    assert drawn[:3] == [True, True, True]


def test_what_was_drawn_ahead_in_vain_is_stored_and_said_and_costs_no_budget(store: Store) -> None:
    painter = Painter(lanes=4, pause=0.002)
    tasks = [task(Dice(128), n=1, budget=40, seed=seed) for seed in range(12)]
    events = list(run(tasks, Bench(painter, store, ASSETS, Hall(0.02))))
    needed = {item.plan.id for item in attempts(events)}
    said = [event for event in events if isinstance(event, Finding)]
    in_vain = len(set(painter.asked) - needed)
    assert store.counts()["renders"] == len(painter.painted)
    assert store.counts()["scorecards"] == len(needed)
    assert bool(said) == bool(in_vain)
    if said:
        assert said[0].code == "SOS-E037"
        assert said[0].message.startswith(f"{in_vain} of ")
    assert in_vain <= max(2, 0.1 * len(painter.asked))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_drawn_two_attempts_ahead_is_judged_when_both_turn_out_to_be_needed(seed: int, tmp_path: Path) -> None:
    tasks = [task(Dice(10), n=1, budget=20, seed=seed)]
    with Store.open(tmp_path / "line") as one, Store.open(tmp_path / "serial") as other:
        made = attempts(run(tasks, Bench(Painter(lanes=4, pause=0.001), one, ASSETS, Hall(0.01))))
        assert shape(made) == shape(list(serial_run(tasks, Painter(), other, ASSETS)))


def test_an_attempt_ahead_of_one_that_is_needed_now_goes_on_waiting() -> None:
    schedule = Schedule([task(Dice(), n=1)], ASSETS)
    for _ in range(4):  # so that two attempts ahead are likely
        failed = schedule.next()
        assert failed is not None
        schedule.judged(failed, "retry")
    first, one, two = schedule.next(), schedule.guess(), schedule.guess()
    assert first is not None
    assert one is not None
    assert two is not None
    assert schedule.judged(first, "retry") == [one]
    assert (one.sure, two.sure, two.in_vain) == (True, False, False)
    assert schedule.judged(one, "keep") == [two]
    assert (two.in_vain, schedule.in_vain, schedule.done) == (True, 1, True)


class Breaks(Painter):
    """Fails at the fourth image."""

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        for event in super().run(plans):
            if len(self.painted) == 4:
                raise EngineError("CUDA error: an illegal memory access was encountered")
            yield event


def test_an_engine_that_fails_loses_nothing_that_it_drew(store: Store) -> None:
    events: list[Happening] = []
    with pytest.raises(EngineError, match="CUDA"):
        events.extend(run([task(Dice(256), n=9)], Bench(Breaks(), store, ASSETS, Hall())))
    assert len(attempts(events)) == 3
    assert store.counts()["scorecards"] == 3
    rest = Painter()
    made = attempts(run([task(Dice(256), n=9)], Bench(rest, store, ASSETS, Hall())))
    assert len(made) == 9
    assert len(rest.painted) == 6


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing_that_was_recorded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, written = Store.keep_image, []

    def keep_image(self: Store, image: Image.Image) -> Any:
        written.append(image)
        if 4 <= len(written) <= 6:  # three are in flight
            raise StoreError("the disk is full") from OSError(errno.ENOSPC, "No space left on device")
        return whole(self, image)

    monkeypatch.setattr(Store, "keep_image", keep_image)
    events: list[Happening] = []
    painter = Painter(lanes=3)
    with pytest.raises(StoreError, match="the disk is full"):
        events.extend(run([task(Dice(256), n=20)], Bench(painter, store, ASSETS, Hall())))
    assert painter.closed == 1
    assert store.counts()["renders"] == store.counts()["scorecards"] == len(attempts(events)) >= 3
    monkeypatch.setattr(Store, "keep_image", whole)
    rest = Painter()
    assert len(attempts(run([task(Dice(256), n=20)], Bench(rest, store, ASSETS, Hall())))) == 20
    assert len(rest.painted) == 20 - len(attempts(events))


def test_whoever_stops_reading_has_what_was_drawn_stored(store: Store) -> None:
    painter, before = Painter(), threading.active_count()
    with closing(run([task(Dice(256), n=9)], Bench(painter, store, ASSETS, Hall(1.0)))) as events:
        for event in events:
            if isinstance(event, Drawn) and len(painter.painted) == 3:
                break
    assert painter.closed == 1
    assert store.counts()["renders"] >= 2
    assert threading.active_count() <= before + 1
    rest = Painter()
    assert len(attempts(run([task(Dice(256), n=9)], Bench(rest, store, ASSETS, Hall())))) == 9
    assert not set(painter.painted[:2]) & set(rest.painted)


def test_kept_images_are_delivered_before_they_are_told_of(store: Store, tmp_path: Path) -> None:
    def deliver(attempt: Attempt, own: Store) -> Path:
        assert own is not store
        target = tmp_path / f"{attempt.plan.id[:8]}.png"
        target.write_bytes(own.read(attempt.stored))
        return target

    made = attempts(run([task(Dice(85), n=5)], Bench(Painter(), store, ASSETS, Hall(), deliver)))
    assert len([one for one in made if one.delivered]) == 5
    for one in made:
        assert (one.delivered is not None) == (one.verdict.outcome == "keep")
        assert one.delivered is None or one.delivered.exists()


def test_a_delivery_that_fails_ends_the_run_with_what_went_wrong(store: Store) -> None:
    def deliver(attempt: Attempt, own: Store) -> Path:
        raise DeliveryError("the folder is gone")

    with pytest.raises(DeliveryError, match="gone"):
        list(run([task(Dice(256), n=5)], Bench(Painter(), store, ASSETS, Hall(), deliver)))
    assert store.counts()["renders"] >= 1


def test_an_engine_that_draws_what_it_was_not_asked_for_is_told_so(store: Store) -> None:
    class Wilful(Painter):
        def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
            for event in super().run(plans):
                yield replace(event, plan=replace(event.plan, seed=1)) if isinstance(event, Render) else event

    with pytest.raises(EngineError, match="not asked for"):
        list(run([task(Dice(256))], Bench(Wilful(), store, ASSETS)))


class Lazy(Painter):
    """Draws nothing."""

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        return iter(())


def test_an_engine_that_draws_nothing_gives_what_the_store_has_and_ends(store: Store) -> None:
    tasks = [task(Dice(256), n=1, budget=1, seed=seed) for seed in range(12)]
    list(run(tasks[::2], Bench(Painter(), store, ASSETS)))
    made = attempts(run(tasks, Bench(Lazy(), store, ASSETS)))
    assert [one.task.name for one in made] == [one.name for one in tasks[::2]]
