"""Many machines at one manifest: nothing is lost, nothing is kept twice, and the budget holds, whoever dies."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from simulated_fleet import PICTURE, Fleet, Outcome, Simulated, Simulation, plans_of

from sosie.core import Plan, Progress, Render
from sosie.core.errors import EngineError, LostError, NotFoundError
from sosie.engines.scheme import Supplies
from sosie.engines.shards.claims import EXPIRY, Claims
from sosie.engines.shards.engine import ShardsEngine
from sosie.engines.shards.manifest import Manifest
from sosie.engines.shards.pull import Part, Pulled, Waits, pull
from sosie.knowledge.rental import Rental
from sosie.pods.budget import most_of, rest_of
from sosie.pods.switch import new_label

Sosie = Callable[..., Any]


class Time:
    at = 1_000_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    made = Manifest.make(tmp_path / "m")
    made.add(plans_of(10), size=4)
    return made


def claims(manifest: Manifest, time: Time, who: str = "one") -> Claims:
    return Claims(manifest.folder / "claims", who, time.now)


def engine() -> Simulated:
    return Simulated(random.Random(0), 0.0, Outcome())


class Failing(Simulated):
    """Raises for some plans."""

    def __init__(self, bad: set[str], error: type[Exception] = EngineError) -> None:
        super().__init__(random.Random(0), 0.0, Outcome())
        self._bad, self._error = bad, error

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        for one in plans:
            if one.id in self._bad:
                raise self._error(f"no picture of {one.draw.index}")
            yield from super().run([one])


def test_machines_that_die_at_random_lose_nothing_and_stay_within_the_budget(tmp_path: Path) -> None:
    plans = plans_of(400)
    fleet = Fleet(machines=8, budget=2.5, hours=1.0, dies=400.0, silent=2000.0, loses=0.01)
    simulation = Simulation(tmp_path / "m", plans, fleet, seed=1)
    outcome = simulation.run()
    manifest = Manifest(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m" / "drawn").iterdir()} == {plan.id for plan in plans}
    assert (outcome.put, outcome.twice, manifest.counts()) == (400, [], (400, 400))
    assert outcome.died > 3
    assert outcome.lost_cards > 0
    assert outcome.cost <= outcome.committed <= fleet.budget
    assert outcome.refused > 0  # the budget was a limit


def test_the_same_plans_added_again_are_no_further_shards(manifest: Manifest) -> None:
    assert manifest.add(plans_of(12), size=4) == 2
    again = Manifest.make(manifest.folder)
    assert again.add(plans_of(12), size=4) == 0
    assert again.shards() == ["000000", "000001", "000002", "000003"]
    assert [plan for shard in again.shards() for plan in again.plans(shard)] == plans_of(12)


def test_a_folder_that_is_no_manifest_or_a_broken_one_is_told(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(NotFoundError, match="is no manifest"):
        Manifest(tmp_path)
    (manifest.folder / "shards" / "000001").write_bytes(b"cut off")
    with pytest.raises(EngineError, match="holds no plans"):
        manifest.plans("000001")
    (manifest.folder / "manifest.json").write_text('{"version": 99}')
    with pytest.raises(EngineError, match="version 99"):
        Manifest(manifest.folder)


def test_a_shard_is_claimed_once_and_taken_over_from_who_gives_no_sign_of_life(manifest: Manifest, time: Time) -> None:
    one, two = claims(manifest, time), claims(manifest, time, "two")
    shards = manifest.shards()[:1]
    mine = one.take(shards)
    assert mine is not None
    assert two.take(shards) is None
    time.at += EXPIRY - 1
    assert one.renew(mine)
    time.at += EXPIRY
    assert two.take(shards) is None  # it was renewed
    time.at += 1
    theirs = two.take(shards)
    assert theirs is not None
    assert (theirs.generation, one.renew(mine), two.renew(theirs)) == (2, False, True)
    one.release(mine)  # too late: it is not its own any more
    assert one.take(shards) is None


def test_two_machines_that_see_an_old_claim_at_once_do_not_both_get_it(manifest: Manifest, time: Time) -> None:
    one, two, three = (claims(manifest, time, name) for name in ("one", "two", "three"))
    shards = manifest.shards()[:1]
    one.take(shards)
    time.at += EXPIRY + 1
    seen = two.standing()
    assert three.take(shards) is not None
    two.standing = lambda: seen  # type: ignore[method-assign]
    assert two.take(shards) is None


def test_a_machine_that_was_slow_leaves_its_shard_to_who_took_over(manifest: Manifest, time: Time) -> None:
    slow = pull(manifest, claims(manifest, time), engine(), Part(0, 3))
    assert isinstance(next(slow), Progress)
    time.at += EXPIRY + 1
    fast = list(pull(manifest, claims(manifest, time, "two"), engine(), Part(0, 3)))
    assert sum(isinstance(event, Pulled) for event in fast) == 4
    assert [event for event in slow if isinstance(event, Pulled)] == []


def test_a_render_that_is_there_stays_and_another_one_is_in_vain(manifest: Manifest, time: Time) -> None:
    events = pull(manifest, claims(manifest, time), engine(), Part(0, 3))
    next(events)
    first = manifest.plans("000000")[0]
    render = next(one for one in engine().run([first]) if isinstance(one, Render))
    assert manifest.put(replace(render, image=Image.new("RGB", (1, 1), "red")))
    (said, *_) = [event for event in events if isinstance(event, Pulled)]
    assert (said.plan_id, said.in_vain) == (first.id, True)
    frame = manifest.spool.result(first.id)
    assert frame is not None
    assert not manifest.put(render)
    assert manifest.spool.result(first.id) == frame


def test_a_machine_waits_for_what_others_draw_and_takes_over_what_they_leave(manifest: Manifest, time: Time) -> None:
    lost = pull(manifest, claims(manifest, time), engine())
    next(lost)
    events = pull(manifest, claims(manifest, time, "two"), engine())
    seen: list[Any] = []
    for event in events:
        seen.append(event)
        if isinstance(event, Waits):
            assert event.held == 1
            time.at += EXPIRY + 1
    assert sum(isinstance(event, Waits) for event in seen) == 1
    assert manifest.counts() == (10, 10)


def test_an_error_is_kept_in_the_place_of_its_plan_and_the_others_are_drawn(manifest: Manifest, time: Time) -> None:
    bad = plans_of(10)[5].id
    events = list(pull(manifest, claims(manifest, time), Failing({bad})))
    failed = [event for event in events if isinstance(event, Pulled) and event.error]
    assert [event.plan_id for event in failed] == [bad]
    assert manifest.counts() == (10, 10)
    assert manifest.again() == 1
    one = claims(manifest, time)
    one.reopen(manifest.shards())
    again = [event for event in pull(manifest, one, engine()) if isinstance(event, Pulled)]
    assert [event.plan_id for event in again] == [bad]


@pytest.mark.parametrize("error", [LostError, NotFoundError])
def test_a_machine_that_cannot_draw_at_all_leaves_its_shard_at_once(
    manifest: Manifest, time: Time, error: type[Exception]
) -> None:
    with pytest.raises(error, match="no picture of 0"):
        list(pull(manifest, claims(manifest, time), Failing({plans_of(1)[0].id}, error)))
    assert manifest.counts() == (10, 0)
    list(pull(manifest, claims(manifest, time, "two"), engine()))
    assert manifest.counts() == (10, 10)


def test_parts_of_machines_without_a_common_folder_are_all_shards_each_once(manifest: Manifest) -> None:
    parts = [Part(number, 2).shards(manifest) for number in range(2)]
    assert parts == [["000000", "000002"], ["000001"]]


def test_an_image_to_work_on_lies_beside_the_plans(manifest: Manifest) -> None:
    picture = Image.new("RGB", (3, 2), "red")
    manifest.add_source("a" * 64, picture)
    assert manifest.source("a" * 64).tobytes() == picture.tobytes()
    with pytest.raises(EngineError, match="is not in"):
        manifest.source("b" * 64)


def supplied(manifest: Manifest, patience: float = 0.0) -> ShardsEngine:
    faces: Any = None
    return ShardsEngine(manifest, Supplies({}, faces, lambda _: PICTURE), patience)


def test_what_was_drawn_is_given_under_the_name_of_what_drew_it(manifest: Manifest, time: Time) -> None:
    reader = supplied(manifest)
    assert [finding.code for finding in reader.check(plans_of(1)[0])] == ["SOS-E044"]
    list(pull(manifest, claims(manifest, time), engine()))
    assert reader.check(plans_of(1)[0]) == []
    assert reader.name == "simulated"
    assert [one.plan for one in reader.run(plans_of(10)) if isinstance(one, Render)] == plans_of(10)


def test_a_plan_that_is_not_there_becomes_a_shard_and_is_missed_if_nobody_draws(manifest: Manifest, time: Time) -> None:
    list(pull(manifest, claims(manifest, time), engine()))
    with pytest.raises(LostError, match="nobody draws plan"):
        list(supplied(manifest).run(plans_of(11)[10:]))
    assert Manifest(manifest.folder).counts() == (11, 10)
    list(pull(manifest, claims(manifest, time), engine()))
    assert len([one for one in supplied(manifest).run(plans_of(11)) if isinstance(one, Render)]) == 11


def test_a_machine_costs_at_most_what_it_bills_until_it_ends_itself() -> None:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    label = new_label("elena", started + timedelta(hours=4))
    rental = Rental(label, "card", 0.5, started.isoformat())
    ended = replace(rental, ended=(started + timedelta(hours=1)).isoformat())
    assert most_of(rental) == pytest.approx(2.0)
    assert most_of(ended) == pytest.approx(0.5)
    assert most_of(replace(rental, label="somebody else's")) == float("inf")
    assert rest_of(3.0, [rental, ended]) == pytest.approx(0.5)
    assert rest_of(3.0, [rental, ended], {label: 0.6}) == pytest.approx(3.0 - 2.4 - 0.5)
    assert most_of(rental, 0.4) == pytest.approx(2.0)


def test_what_is_planned_by_one_command_is_drawn_by_others_and_delivered_here(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    at, where = ("--workspace", workspace), tmp_path / "plans"
    wanted = ("generate", "mira", "smiling", "-n", "1", "--recipe", "mini", "--seed", "10", *at)
    done = sosie(*wanted, "--plans", where, "--engine", "fake")
    assert (done.code, "1 plans in 1 shards, 1 of them new" in done.err) == (0, True), done.err
    assert sosie(*wanted, "--plans", where).code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = sosie("worker", "draw", where, "--engine", "fake", "--workspace", elsewhere)
    assert (done.code, "1 of 1 plans are done" in done.err) == (0, True), done.err
    done = sosie(*wanted, "--engine", f"shards:{where}", "--json")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0, done.err
    assert len(list((workspace / "outputs" / "mira").glob("*.png"))) >= 1
    assert not any("resumed" in one and one["resumed"] for one in told)
    done = sosie("worker", "draw", where, "--engine", "fake", "--shard", "2/2", "--workspace", elsewhere)
    assert (done.code, "expected K/N" in done.err) == (2, True)
