"""Several servers at one run: the work is shared, a dead one's is done by another, nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from comfy_bench import QUICK, UNET, Recipes, codes, engine_on, plan, renders, set_behaviour
from PIL import Image

from sosie.core import Environment, Plan, Progress, Render
from sosie.core.feed import Feed, Listed
from sosie.engines.comfy.engine import ComfyEngine
from sosie.engines.comfy.errors import ComfyError, LostError
from sosie.engines.comfy.fake import Behaviour, FakeServer, Raises
from sosie.engines.comfy.pool import ServerPool
from sosie.engines.comfy.program import GraphProgram, Step
from sosie.engines.comfy.server import Server
from sosie.engines.comfy.worker import PlanWork

pytestmark = pytest.mark.once

SEEDS = tuple(range(1, 9))
IMPATIENT = replace(QUICK, gone=0.4)
LENDING = replace(QUICK, gone=30.0, away=0.1)
"""Waits long for a server, and lets another one draw meanwhile."""


@pytest.fixture
def two() -> Iterator[tuple[FakeServer, FakeServer]]:
    slow = Behaviour(step_seconds=0.02)
    with FakeServer(slow) as one, FakeServer(slow) as other:
        yield one, other


def test_two_servers_share_the_work(two: tuple[FakeServer, FakeServer]) -> None:
    made = renders(engine_on(*two), *SEEDS)
    assert sorted(render.plan.seed for render in made) == list(SEEDS)
    assert all(len(server.disk.finished) >= 2 for server in two)
    assert sum(len(server.disk.finished) for server in two) == len(SEEDS)


def test_many_servers_are_one_engine_whose_name_does_not_depend_on_their_order(
    two: tuple[FakeServer, FakeServer],
) -> None:
    one, other = engine_on(*two), engine_on(*reversed(two))
    assert one.name == other.name
    (made,) = renders(one, 1)
    assert made.engine == one.name
    assert made.environment.device.partition(",")[0] in one.name
    other.close()


class Late(Feed):
    """Gives the second plan only after the first was drawn."""

    def __init__(self) -> None:
        self.given, self.is_drawn = 0, False

    @property
    def ended(self) -> bool:
        return self.given == 2

    def take(self, wait: float = 0.0) -> Plan | None:
        if self.ended or (self.given == 1 and not self.is_drawn):
            return None
        self.given += 1
        return plan(self.given)


def test_a_plan_that_comes_while_servers_draw_is_drawn_in_the_same_run(two: tuple[FakeServer, FakeServer]) -> None:
    late, seeds = Late(), list[int]()
    for event in engine_on(*two).run(late):
        if isinstance(event, Render):
            seeds.append(event.plan.seed)
            late.is_drawn = True
    assert seeds == [1, 2]


def test_a_server_that_dies_in_mid_run_is_dropped_and_its_work_done(two: tuple[FakeServer, FakeServer]) -> None:
    dying, other = two
    set_behaviour(dying, die_at=2, restart_seconds=-1)
    made = renders(engine_on(*two, patience=IMPATIENT), *SEEDS)
    assert sorted(render.plan.seed for render in made) == list(SEEDS)
    assert len(other.disk.finished) == len(SEEDS)
    moved = [render for render in made if "SOS-Y004" in codes(render.findings)]
    assert len(moved) == 1
    assert dying.url.removeprefix("http://") in moved[0].findings[0].message


def test_a_server_that_is_away_for_a_moment_is_waited_for(two: tuple[FakeServer, FakeServer]) -> None:
    set_behaviour(two[0], die_at=2, restart_seconds=0.2)
    made = renders(engine_on(*two), *SEEDS)
    assert sorted(render.plan.seed for render in made) == list(SEEDS)
    assert all("SOS-Y004" not in codes(render.findings) for render in made)
    assert sum(len(server.disk.finished) for server in two) == len(SEEDS)


def test_an_idle_server_draws_what_a_lost_one_had_while_that_is_still_waited_for(
    two: tuple[FakeServer, FakeServer],
) -> None:
    set_behaviour(two[0], die_at=2, restart_seconds=-1)
    started = time.monotonic()
    made = renders(engine_on(*two, patience=LENDING), 1, 2)
    assert time.monotonic() - started < 5
    assert sorted(render.plan.seed for render in made) == [1, 2]
    (moved,) = [render for render in made if "SOS-Y004" in codes(render.findings)]
    assert [f.subject for f in moved.findings if f.code == "SOS-Y004"] == [two[0].url.removeprefix("http://")]
    assert moved.environment.device.startswith(two[1].url.removeprefix("http://"))


def test_of_two_that_draw_the_same_image_the_first_is_taken_and_the_other_stopped(
    two: tuple[FakeServer, FakeServer],
) -> None:
    late, helper = two
    set_behaviour(late, die_at=2, restart_seconds=0.5, step_seconds=0.1)
    set_behaviour(helper, step_seconds=0.1)
    engine = engine_on(late, helper, compiler=Recipes(steps=12), patience=LENDING)
    made: list[Render] = []
    for event in engine.run([plan(1), plan(2), plan(3)]):
        made += [event] if isinstance(event, Render) else []
    assert sorted(render.plan.seed for render in made) == [1, 2, 3]
    # The one that came back had begun anew: its prompt is gone from queue and history alike, or was interrupted.
    saved = len(late.disk.finished) + len(helper.disk.finished)
    assert saved == 3
    assert late.count("POST", "/prompt") >= 2
    engine.close()


def test_a_server_that_was_helped_out_works_on_when_it_is_back(two: tuple[FakeServer, FakeServer]) -> None:
    late, helper = two
    set_behaviour(late, die_at=1, restart_seconds=1.0)
    engine = engine_on(late, helper, patience=LENDING)
    plans = [plan(seed) for seed in (1, 2, 3, 4, 5, 6, 7, 8)]
    made: list[int] = []
    for event in engine.run(plans):
        if isinstance(event, Render):
            made.append(event.plan.seed)
            # The reader is slow enough that the helper is idle, and the other comes back before the end.
            time.sleep(0.4)
    assert sorted(made) == list(range(1, 9))
    assert late.disk.finished
    assert len(late.disk.finished) + len(helper.disk.finished) == 8
    engine.close()


class StandIn:
    """A worker whose `late` one is away with the first image, and finishes it although it was told to stop."""

    def __init__(self, name: str, helped: threading.Event) -> None:
        self.name, self.helped, self.made = name, helped, list[int]()
        self.link = SimpleNamespace(trouble=None, stop=lambda: None, resume=lambda: None, check_wanted=lambda: None)

    def render(self, work: PlanWork, engine: str, host: object) -> Render:
        del host
        seed = work.plan.seed
        if self.name == "late" and not self.made:
            self.link.trouble = LostError(Server("http://late"), "no connection")
            assert self.helped.wait(5)
            self.link.trouble = None
        elif self.made:
            # Time for the other's image to be read.
            time.sleep(0.2)
        self.made.append(seed)
        if self.name == "helper" and seed == 1:
            self.helped.set()
        return Render(Image.new("RGB", (8, 8)), work.plan, engine, Environment("", "", self.name, ()), 0.0)

    def relink(self) -> None:
        pass


def test_an_image_that_two_servers_finish_is_given_once() -> None:
    helped = threading.Event()
    late, helper = StandIn("late", helped), StandIn("helper", helped)
    step = Step("generate", Recipes().compiled(plan(1)))
    pool = ServerPool([late, helper], "e", lambda p: PlanWork(p, GraphProgram((step,)), None, step.draft))  # type: ignore[list-item]
    original, taken = pool._take, threading.Event()

    def late_first(worker: Any) -> PlanWork | None:
        assert worker is late or taken.wait(5)
        work = original(worker)
        taken.set()
        return work

    pool._take = late_first  # type: ignore[method-assign]
    made = [event for event in pool.events(Listed([plan(seed) for seed in (1, 2, 3, 4)])) if isinstance(event, Render)]
    assert sorted(render.plan.seed for render in made) == [1, 2, 3, 4]
    assert 1 in late.made
    assert 1 in helper.made
    (first,) = [render for render in made if render.plan.seed == 1]
    # Whichever was read first; only the helper's says why it is not the other's.
    assert codes(first.findings) == (["SOS-Y004"] if first.environment.device == "helper" else [])


def test_when_the_helper_dies_too_a_third_one_draws(two: tuple[FakeServer, FakeServer]) -> None:
    slow = Behaviour(step_seconds=0.02)
    with FakeServer(slow) as third:
        for server in two:
            set_behaviour(server, die_at=2, restart_seconds=-1)
        made = renders(engine_on(*two, third, patience=LENDING), 1, 2, 3, 4)
        assert sorted(render.plan.seed for render in made) == [1, 2, 3, 4]
        assert len(third.disk.finished) == 4


def test_when_all_are_dead_the_run_ends_with_the_last_loss(two: tuple[FakeServer, FakeServer]) -> None:
    for server in two:
        set_behaviour(server, die_at=2, restart_seconds=-1)
    engine = engine_on(*two, patience=IMPATIENT)
    with pytest.raises(LostError):
        renders(engine, *SEEDS)


def test_a_server_that_is_dead_at_the_start_is_left_out(two: tuple[FakeServer, FakeServer]) -> None:
    two[0].stop()
    engine = engine_on(*two)
    found = engine.check(plan())
    assert [(f.code, f.severity) for f in found if f.severity != "info"] == [("SOS-Y001", "warning")]
    assert len(renders(engine, 1, 2)) == 2


def test_a_server_that_lacks_a_file_is_left_out_while_another_has_it(two: tuple[FakeServer, FakeServer]) -> None:
    set_behaviour(two[0], files={**two[0].behaviour.files, "diffusion_models": ()})
    engine = engine_on(*two)
    (warning,) = [finding for finding in engine.check(plan()) if finding.severity != "info"]
    assert (warning.code, warning.severity) == ("SOS-Y011", "warning")
    assert "left out" in warning.message
    assert len(renders(engine, *SEEDS)) == len(SEEDS)
    assert two[0].count("POST", "/prompt") == 0


def test_when_no_server_can_do_it_every_ones_reason_is_an_error(two: tuple[FakeServer, FakeServer]) -> None:
    for server in two:
        set_behaviour(server, lacks=frozenset({"KSampler"}))
    engine = engine_on(*two)
    errors = [finding for finding in engine.check(plan()) if finding.severity == "error"]
    assert [finding.code for finding in errors] == ["SOS-Y010", "SOS-Y010"]
    engine.close()


def test_an_error_of_one_ends_the_run_and_takes_back_the_others_work(two: tuple[FakeServer, FakeServer]) -> None:
    set_behaviour(two[0], raises={"KSampler": Raises("ValueError", "it broke")}, step_seconds=0.1)
    set_behaviour(two[1], step_seconds=0.1)
    engine = engine_on(*two, compiler=Recipes(steps=50))
    with pytest.raises(ComfyError, match="it broke"):
        renders(engine, *SEEDS)
    deadline = time.monotonic() + 3
    while (life := two[1].life) and (life.running or life.queue) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert life is not None
    assert [entry["status"]["status_str"] for entry in life.history.values()] == ["error"]


def test_a_server_is_at_most_one_plan_ahead_of_the_reader(two: tuple[FakeServer, FakeServer]) -> None:
    one = two[0]
    set_behaviour(one, step_seconds=0.0)
    engine = engine_on(one)
    running = engine.run([plan(seed) for seed in SEEDS])
    first = next(event for event in running if isinstance(event, Render))
    assert first.plan.seed == 1
    deadline = time.monotonic() + 3
    while len(one.disk.finished) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.6)
    assert one.count("POST", "/prompt") == 2
    running.close()
    engine.close()


def test_a_server_works_on_while_an_image_is_judged(two: tuple[FakeServer, FakeServer]) -> None:
    engine = engine_on(two[0])
    running = engine.run([plan(1), plan(2)])
    next(event for event in running if isinstance(event, Render))
    deadline = time.monotonic() + 3
    while two[0].count("POST", "/prompt") < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert two[0].count("POST", "/prompt") == 2
    running.close()
    engine.close()


def test_closing_the_engine_ends_a_run_that_nobody_reads(two: tuple[FakeServer, FakeServer]) -> None:
    before = threading.active_count()
    engine = engine_on(*two, compiler=Recipes(steps=500))
    running = engine.run([plan(seed) for seed in SEEDS])
    next(event for event in running if isinstance(event, Progress) and event.what == "generate")
    started = time.monotonic()
    engine.close()
    assert time.monotonic() - started < 3
    assert list(running) == []
    for server in two:
        assert server.life is not None
        assert not server.life.queue
    assert threading.active_count() <= before + 8


def test_sosies_own_work_is_done_in_the_readers_thread_only(two: tuple[FakeServer, FakeServer]) -> None:
    threads: set[int] = set()
    recipes = Recipes()

    def compiler(planned: Plan, *, smaller: bool = False) -> GraphProgram:
        threads.add(threading.get_ident())
        return recipes(planned, smaller=smaller)

    set_behaviour(two[0], raises={"KSampler": Raises("torch.OutOfMemoryError", "Allocation on device", 1)})
    renders(engine_on(*two, compiler=compiler), *SEEDS)
    assert threads == {threading.get_ident()}
    assert recipes.smaller


def test_an_error_in_sosies_own_work_ends_the_run(two: tuple[FakeServer, FakeServer]) -> None:
    def broken(planned: Plan, *, smaller: bool = False) -> GraphProgram:
        if planned.seed == 3:
            raise ValueError("no picture")
        return Recipes()(planned)

    with pytest.raises(ValueError, match="no picture"):
        renders(engine_on(*two, compiler=broken), *SEEDS)


def test_a_second_run_of_the_same_engine_works_and_a_server_that_came_back_helps(
    two: tuple[FakeServer, FakeServer],
) -> None:
    engine = engine_on(*two, patience=IMPATIENT)
    set_behaviour(two[0], die_at=1, restart_seconds=-1)
    assert len([event for event in engine.run([plan(1), plan(2)]) if isinstance(event, Render)]) == 2
    two[0].start()
    before = len(two[0].disk.finished)
    assert len(renders(engine, *SEEDS)) == len(SEEDS)
    assert len(two[0].disk.finished) > before


def test_two_servers_with_one_dying_give_the_images_that_one_gives(two: tuple[FakeServer, FakeServer]) -> None:
    with FakeServer() as alone:
        wanted = {made.plan.seed: made.image.tobytes() for made in renders(engine_on(alone), *SEEDS)}
    set_behaviour(two[1], die_at=3, restart_seconds=-1)
    made = renders(engine_on(*two, patience=IMPATIENT), *SEEDS)
    assert {render.plan.seed: render.image.tobytes() for render in made} == wanted


def test_a_given_image_is_what_a_program_starts_from(two: tuple[FakeServer, FakeServer]) -> None:
    seen: list[Image.Image | None] = []

    def compiler(planned: Plan, *, smaller: bool = False) -> GraphProgram:
        program = Recipes()(planned)
        draft = program.steps[0].draft
        step = replace(program.steps[0], compile=lambda image: (seen.append(image), draft)[1])
        return replace(program, steps=(step,))

    engine: ComfyEngine = engine_on(two[0], compiler=compiler)
    made = [event for event in engine.run([plan(1, source="a" * 64), plan(2)]) if isinstance(event, Render)]
    engine.close()
    assert len(made) == 2
    assert [image.size if image else None for image in seen] == [(64, 64), None]


def test_models_are_per_server(two: tuple[FakeServer, FakeServer]) -> None:
    two[0].disk.models[UNET] = "df11"
    made = renders(engine_on(*two), *SEEDS)
    black = [render for render in made if "SOS-Y033" in codes(render.findings)]
    assert 0 < len(black) < len(SEEDS)
    assert all(finding.subject == two[0].url.removeprefix("http://") for render in black for finding in render.findings)
