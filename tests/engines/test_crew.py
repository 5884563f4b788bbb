"""Several cards at one run: every plan once, whatever is lost, and in as many processes as there are cards."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from catalogues import ask
from PIL import Image

from sosie.core import (
    Character,
    Draw,
    Environment,
    Finding,
    Plan,
    Progress,
    Recipe,
    Reference,
    Render,
    Request,
    Stage,
    plan,
)
from sosie.core.errors import EngineError, LostError, UsageError
from sosie.engines.crew import E040, E041, IN_A_ROW, PER_PLAN, Crew, Member
from sosie.engines.diffusers import DiffusersEngine
from sosie.engines.lost import lost_card
from sosie.engines.resident import ResidentEngine, all_status, dismiss_all
from sosie.engines.resident_protocol import Role, read_door
from sosie.engines.scheme import Supplies
from sosie.families.contract.draws import Settings
from sosie.machines import cards
from sosie.machines.cards import Card, choose_cards, installed_cards
from sosie.workspace.workspace import open_workspace

Sosie = Callable[..., Any]
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)
ENVIRONMENT = Environment("3", "any", "none", ())


def plans(n: int) -> list[Plan]:
    who = Character("mira", "fictional", True)
    return [plan(RECIPE, who, Request("r", who.name, "smiling"), Draw(i), {"m": "a" * 64}) for i in range(n)]


class Hand:
    """An engine that draws nothing but notes; `fate` may raise in the place of an image, or change its name."""

    def __init__(self, drawn: list[str], fate: Callable[[Hand, Plan], None] | None = None) -> None:
        self.name = "hand"
        self.drawn = drawn
        self.fate = fate
        self.begun: list[str] = []
        self.cancelled = self.closed = False

    def check(self, plan: Plan) -> list[Finding]:
        return [Finding("SOS-E001", "info", "x", "the same for all")]

    def run(self, plans: Sequence[Plan]) -> Iterator[Progress | Render]:
        for one in plans:
            self.begun.append(one.id)
            try:
                for step in range(3):
                    time.sleep(0.001)
                    yield Progress("generate", step + 1, 3)
            except GeneratorExit:
                self.cancelled = True
                raise
            if self.fate is not None:
                self.fate(self, one)
            self.drawn.append(one.id)
            yield Render(Image.new("RGB", (8, 8)), one, self.name, ENVIRONMENT, 0.0)

    def close(self) -> None:
        self.closed = True


def together(count: int) -> Callable[[Hand, Plan], None]:
    """Holds the first images of so many members until all of them have begun one."""
    barrier = threading.Barrier(count)

    def fate(hand: Hand, _: Plan) -> None:
        if len(hand.begun) == 1:
            barrier.wait(30)

    return fate


def lost_at(*calls: int) -> Callable[[Hand, Plan], None]:
    """Loses the member at its calls of these numbers."""

    def fate(hand: Hand, _: Plan) -> None:
        if len(hand.begun) in calls:
            raise LostError("the card failed", "look at it")

    return fate


def crew(*fates: Callable[[Hand, Plan], None] | None, places: int = 1) -> tuple[Crew, list[Hand], list[str]]:
    drawn: list[str] = []
    hands = [Hand(drawn, fate) for _ in range(places) for fate in fates]
    members = [Member(f"card {index % len(fates)}", hand) for index, hand in enumerate(hands)]
    return Crew(members), hands, drawn


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def renders(events: Iterator[Progress | Render]) -> list[Render]:
    return [event for event in events if isinstance(event, Render)]


def test_every_plan_is_drawn_once_by_all_who_are_there() -> None:
    asked = plans(40)
    engine, hands, drawn = crew(*[together(4)] * 2, places=2)
    made = renders(engine.run(asked))
    assert Counter(render.plan.id for render in made) == Counter(planned.id for planned in asked)
    assert len(drawn) == 40
    assert all(hand.begun for hand in hands)
    assert not any(render.findings for render in made)


def test_two_plans_go_to_two_cards_and_not_to_two_places_of_one() -> None:
    for _ in range(20):
        engine, hands, _ = crew(*[together(2)] * 2, places=2)
        renders(engine.run(plans(2)))
        assert [len(hands[card].begun) + len(hands[card + 2].begun) for card in (0, 1)] == [1, 1]


def test_what_was_lost_is_drawn_again_and_said() -> None:
    asked = plans(20)
    begins = together(2)

    def first(hand: Hand, planned: Plan) -> None:
        begins(hand, planned)
        lost_at(1)(hand, planned)

    def second(hand: Hand, planned: Plan) -> None:
        begins(hand, planned)
        assert eventually(lambda: len(hand.begun) < 2 or len(hands[0].begun) > 1)  # it comes back

    engine, hands, drawn = crew(first, second)
    made = renders(engine.run(asked))
    assert sorted(drawn) == sorted(planned.id for planned in asked)
    assert len(made) == 20
    (told,) = [finding for render in made for finding in render.findings]
    assert (told.code, told.subject) == (E040.code, "card 0")
    assert "card 0 was lost in mid-run (the card failed); card" in told.message


def test_who_is_lost_again_and_again_gets_no_more() -> None:
    def patient(*_: object) -> None:
        assert eventually(lambda: len(hands[0].begun) == IN_A_ROW)

    engine, hands, drawn = crew(lost_at(*range(1, 99)), patient)
    assert len(renders(engine.run(plans(30)))) == 30
    assert len(drawn) == 30
    assert len(hands[0].begun) == IN_A_ROW


def test_when_nobody_is_left_the_run_ends_with_what_is_missing() -> None:
    engine, _, drawn = crew(lost_at(*range(2, 99)), lost_at(*range(2, 99)))
    made: list[Render] = []
    with pytest.raises(LostError, match=r"no card is left for \d images that were begun: the card failed"):
        made += [event for event in engine.run(plans(30)) if isinstance(event, Render) and not made.append(event)]
    assert sorted(render.plan.id for render in made) == sorted(drawn)  # cards hand over as they can


def test_a_plan_that_ends_whoever_draws_it_is_told_from_cards_that_fail() -> None:
    asked = plans(30)
    bad = asked[4].id

    def fate(_: Hand, planned: Plan) -> None:
        if planned.id == bad:
            raise LostError("killed", "")

    engine, _, drawn = crew(*[fate] * 5)
    with pytest.raises(LostError, match=f"plan {bad[:12]} ended the work of {PER_PLAN} cards; the last time: killed"):
        list(engine.run(asked))
    assert bad not in drawn


def test_one_that_comes_back_as_another_engine_draws_nothing() -> None:
    def fate(hand: Hand, _: Plan) -> None:
        if hand.name == "hand":
            hand.name = "hand-cpu"
            raise LostError("the card failed")

    engine, hands, drawn = crew(None, fate)
    assert len(renders(engine.run(plans(10)))) == len(drawn) == 10
    assert len(hands[1].begun) <= 1


def test_an_error_that_is_no_loss_ends_the_run_and_stops_the_others() -> None:
    def fate(hand: Hand, _: Plan) -> None:
        if len(hand.begun) == 2:
            raise EngineError("out of memory", "use less")

    engine, _, _ = crew(None, fate)
    with pytest.raises(EngineError, match="out of memory"):
        list(engine.run(plans(1000)))


class Idle(Hand):
    """An engine that ends without an image."""

    def run(self, plans: Sequence[Plan]) -> Iterator[Progress | Render]:
        self.begun += [one.id for one in plans]
        yield Progress("generate", 1, 3)


def test_a_member_that_ends_without_its_image_ends_the_run_which_would_wait_for_it() -> None:
    drawn: list[str] = []
    made = Crew([Member("card 0", Hand(drawn)), Member("card 1", Idle(drawn))])
    with pytest.raises(EngineError, match=r"card 1 \(hand\) ended without the image of plan [0-9a-f]{12}"):
        renders(made.run(plans(4)))


def test_who_stops_reading_stops_all_members() -> None:
    engine, hands, drawn = crew(None, None)
    events: Any = engine.run(plans(1000))
    for event in events:
        if isinstance(event, Render):
            break
    events.close()
    assert len(drawn) < 10
    before = threading.active_count()
    engine.close()
    assert all(hand.closed for hand in hands)
    assert threading.active_count() <= before


def test_nothing_is_drawn_that_nobody_reads() -> None:
    engine, hands, drawn = crew(None, None, places=2)
    events = engine.run(plans(100))
    next(event for event in events if isinstance(event, Render))
    time.sleep(0.2)
    assert len(drawn) <= 1 + len(hands)


def test_progress_is_that_of_one_plan_at_a_time() -> None:
    engine, _, _ = crew(*[together(3)] * 3)
    assert len([event for event in engine.run(plans(9)) if isinstance(event, Progress)]) < 9 * 3


def test_checks_are_said_once_and_cards_that_draw_otherwise_are_refused() -> None:
    engine, hands, _ = crew(None, None, places=2)
    assert [finding.code for finding in engine.check(plans(1)[0])] == ["SOS-E001"]
    hands[1].name = "hand-cpu"
    found = engine.check(plans(1)[0])
    assert [finding.code for finding in found] == ["SOS-E001", E041.code]
    assert "card 0 as hand, card 1 as hand-cpu" in found[1].message


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might...", True),
        ("CUDA error: unspecified launch failure", True),
        ("CUDA driver error: device is lost", True),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("CUDA error: out of memory", False),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)", False),
        ("CUDA error: no kernel image is available for execution on the device", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_lost_card_is_told_from_other_errors(message: str, lost: bool) -> None:
    found = lost_card(RuntimeError(message), "cuda")
    assert (found is not None) is lost
    if found is not None:
        assert "\n" not in found.message
    assert lost_card(ValueError(message), "cuda") is None


def test_an_engine_whose_card_failed_says_so_and_frees_nothing_on_it() -> None:
    class Failing:
        closed = False

        def run(self, *_: object) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be")

        def close(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine: Any = DiffusersEngine(Supplies({}, None, None), device="cpu")  # type: ignore[arg-type]
    engine._residency = Failing()
    with pytest.raises(
        LostError, match=r"the card failed while it drew \(cpu: an illegal memory access was encountered\)"
    ):
        list(engine.run(plans(1)))
    engine.close()


CARDS = (Card(0, "0", "A"), Card(1, "1", "A"), Card(2, "2", "B"))


def test_cards_are_chosen_by_all_or_by_number() -> None:
    assert choose_cards("all", CARDS) == CARDS
    assert choose_cards("2, 0", CARDS) == (CARDS[2], CARDS[0])
    for text, why in (
        ("", "not understood"),
        ("gpu", "not understood"),
        ("0,,1", "not understood"),
        ("-1", "not understood"),
        ("1,1", "twice"),
        ("3", "there is no card 3; this machine has 0, 1, 2"),
    ):
        with pytest.raises(UsageError, match=why):
            choose_cards(text, CARDS)
    with pytest.raises(UsageError, match="no card that Sosie can use"):
        choose_cards("all", ())


def test_the_cards_that_the_environment_shows_are_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from sosie.machines.facts import Gpu, MachineFacts

    monkeypatch.setattr(cards, "read_machine", lambda _: MachineFacts((Gpu("A"), Gpu("B"))))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert installed_cards() == (Card(0, "0", "A"), Card(1, "1", "B"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,-1,0")
    assert installed_cards() == (Card(0, "1", "B"), Card(1, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert installed_cards() == ()


# From here on every card has a process.


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says that it has two cards; the fake engine draws on neither."""
    monkeypatch.setattr("sosie.api.engines.installed_cards", lambda: CARDS[:2])


def generate(out: Path, workspace: Path, *more: object) -> list[object]:
    common = ["--engine", "fake", "--out", out, "--workspace", workspace, "--json"]
    return ["generate", "mira", "smiling", "-n", 2, "--seed", 7, *common, *more]


def facts(text: str) -> dict[str, Any]:
    """What is printed of each plan, without what may differ between two runs."""
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["plan"]: {**line, "image": "", "seconds": 0} for line in lines}


def workers_of(workspace: Path) -> list[Path]:
    return sorted(path.parent for path in (workspace / ".sosie").glob("worker*/door.json"))


@pytest.mark.once
@pytest.mark.usefixtures("two_cards")
def test_two_cards_print_and_record_what_one_does_and_leave_no_process(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    many = sosie(*generate(tmp_path / "a", workspace, "--devices", "all"))
    assert many.code == 0, many.err
    assert sorted(path.name for path in (workspace / ".sosie").glob("worker*")) == ["worker-0", "worker-1"]
    assert eventually(lambda: not workers_of(workspace))
    again = sosie(*generate(tmp_path / "a", workspace))
    assert facts(again.out) == facts(many.out)
    rows = ask(workspace / ".sosie" / "catalogue.sqlite", "SELECT plan, engine FROM renders")
    assert len(rows) == len(set(rows)) >= len(facts(many.out))  # one that was drawn ahead may be too many


@pytest.fixture
def workers(tmp_path: Path, references: list[Path]) -> Iterator[tuple[Path, Callable[[float], Crew], list[Plan]]]:
    """A workspace, what makes a crew of two cards' processes with the fake engine that stay for minutes, and plans."""
    root = tmp_path / "ws"
    root.mkdir()
    files = {f"{index:064d}": path for index, path in enumerate(references[:3])}
    who = Character("mira", "fictional", True, references=tuple(Reference(p.name, sha) for sha, p in files.items()))
    asked = [plan(RECIPE, who, Request("r", "mira", "smiling"), Draw(i), {"m": "a" * 64}) for i in range(30)]
    space = open_workspace(root)

    def made(minutes: float) -> Crew:
        roles = [Role(str(root), "fake", Settings(), card) for card in "01"]
        return Crew([Member(f"card {role.card}", ResidentEngine(space, role, files, minutes)) for role in roles * 2])

    yield root, made, asked
    dismiss_all(space)


Workers = tuple[Path, Callable[[float], Crew], list[Plan]]


@pytest.mark.once
def test_workers_that_are_kept_are_shown_and_stopped_one_a_card(sosie: Sosie, workers: Workers) -> None:
    root, made, asked = workers
    engine = made(30)
    assert len(renders(engine.run(asked))) == 30
    engine.close()
    told = [json.loads(line) for line in sosie("worker", "status", "--json", "--workspace", root).out.splitlines()]
    assert [one["card"] for one in told] == ["0", "1"]
    assert sum(one["served"] for one in told) == 30
    assert all(one["served"] for one in told)
    for one in told:
        assert b"CUDA_VISIBLE_DEVICES=" + one["card"].encode() in Path(f"/proc/{one['pid']}/environ").read_bytes()
    stopped = sosie("worker", "stop", "--workspace", root)
    assert "2 workers have ended" in stopped.err
    assert all_status(open_workspace(root)) == ()


@pytest.mark.once
def test_a_worker_that_is_killed_in_mid_run_costs_nothing_that_was_finished(workers: Workers) -> None:
    root, made, asked = workers
    engine, got = made(0), Counter[str]()
    for render in renders_until(engine.run(asked), 5, lambda: kill(root / ".sosie")):
        got[render.plan.id] += 1
    assert got == Counter(planned.id for planned in asked)
    engine.close()
    assert eventually(lambda: not workers_of(root))


def kill(state: Path) -> None:
    """Kills one of the workers that are there."""
    doors = [door for door in (read_door(state, card) for card in "01") if door is not None]
    os.kill(doors[-1].pid, signal.SIGKILL)


def renders_until(events: Iterator[Progress | Render], count: int, strike: Callable[[], None]) -> Iterator[Render]:
    """The renders; `strike` comes after `count` of them."""
    for number, event in enumerate(event for event in events if isinstance(event, Render)):
        if number == count:
            strike()
        yield event


def test_devices_are_for_this_machine(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    refused = sosie(*generate(tmp_path / "a", workspace, "--engine", "comfy:http://127.0.0.1:1", "--devices", "all"))
    assert refused.code == 2
    assert "--devices is for engines on this machine" in refused.err


def test_a_machine_without_cards_says_so(
    sosie: Sosie, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sosie.api.engines.installed_cards", tuple)
    refused = sosie(*generate(tmp_path / "a", workspace, "--devices", "all"))
    assert refused.code == 2
    assert "this machine has no card that Sosie can use" in refused.err
    assert "nvidia-smi -L" in refused.err
