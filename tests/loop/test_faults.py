"""What fails in mid-run while images are drawn, judged and delivered at once: nothing lost, nothing twice, and said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import ask
from PIL import Image

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
from sosie.core.errors import LostError
from sosie.core.feed import feed_of
from sosie.engines.crew import Crew, Member
from sosie.engines.lost import lost_card
from sosie.loop.attempts import run
from sosie.loop.judge import Origin
from sosie.loop.judge_room import Processes
from sosie.loop.task import Attempt, Bench, Task
from sosie.store import Store

N = 12
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)


class Painter:
    """Paints noise of a plan's seed; `strike` comes before each image, and may raise in its place."""

    name = "painter"

    def __init__(self, drawn: list[str], strike: Callable[[], None] = lambda: None) -> None:
        self.drawn, self.strike = drawn, strike

    def check(self, plan: Plan) -> list[Finding]:
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        feed = feed_of(plans)
        while not feed.ended:
            if (plan := feed.take(0.02)) is not None:
                self.strike()
                pixels = np.random.default_rng(plan.seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
                self.drawn.append(plan.id)
                yield Render(Image.fromarray(pixels), plan, self.name, Environment("3", "any", "none", ()), 0.1)

    def close(self) -> None:
        pass


class Dice:
    """Keeps half of what is painted."""

    id = "dice"

    def __call__(self, image: Image.Image, origin: Origin) -> tuple[Scorecard, Verdict]:
        first = np.asarray(image)[0, 0, 0].item()
        card = Scorecard((Score("defect", "pixel", float(first), 1.0, first < 128),))
        return card, Verdict("keep") if first < 128 else Verdict("retry", ("pixel",))


def task() -> Task:
    judge: Any = Dice()
    return Task("t", RECIPE, Character("mira", "fictional", True), Request("r", "mira", "x", seed=5), N, 4 * N, judge)


def events_of(bench: Bench, strike: Callable[[int], None] = lambda _: None) -> tuple[list[Attempt], list[Finding]]:
    """The attempts of a run, and what was said; `strike` is called after each attempt with how many there are."""
    made, said = list[Attempt](), list[Finding]()
    for event in run([task()], bench):
        if isinstance(event, Attempt):
            made.append(event)
            said += event.stored.notes.findings
            strike(len(made))
        elif isinstance(event, Finding):
            said.append(event)
    return made, said


def undisturbed(folder: Path) -> list[str]:
    """The plans of a run in which nothing fails."""
    with Store.open(folder) as store:
        return [one.plan.id for one in events_of(Bench(Painter([]), store, {"m": "0" * 64}))[0]]


def check_once(store: Store, made: list[Attempt], drawn: list[str]) -> None:
    """Each attempt is drawn, recorded and judged once; what was drawn ahead is in the store too."""
    assert len(drawn) == len(set(drawn)) == store.counts()["renders"]
    assert len(made) == len({one.plan.id for one in made}) == store.counts()["scorecards"]
    assert sum(one.verdict.outcome == "keep" for one in made) == N


@pytest.mark.processes
def test_a_judge_process_that_is_killed_in_mid_run_costs_no_image_and_doubles_none(tmp_path: Path) -> None:
    drawn: list[str] = []
    with Store.open(tmp_path / "a") as store, Processes(1) as room:

        def strike(count: int) -> None:
            if count == 3:
                station: Any = room._stations[0]
                os.kill(station._process._process.pid, signal.SIGKILL)

        made, said = events_of(Bench(Painter(drawn), store, {"m": "0" * 64}, room), strike)
        check_once(store, made, drawn)
    assert [one.plan.id for one in made] == undisturbed(tmp_path / "b")
    (finding,) = (one for one in said if one.code == "SOS-J010")
    assert "killed by signal 9" in finding.message
    assert finding.message.endswith("another one judges its image")


def test_a_card_that_is_lost_in_mid_run_costs_no_image_and_doubles_none(tmp_path: Path) -> None:
    drawn, calls = list[str](), list[int]()

    def fail() -> None:
        calls.append(1)
        if len(calls) == 3:
            gone = lost_card(RuntimeError("CUDA error: an illegal memory access was encountered\nsecond"), "cuda")
            assert gone is not None
            raise gone

    engine = Crew([Member("card 0", Painter(drawn, fail)), Member("card 1", Painter(drawn, lambda: time.sleep(0.01)))])
    with Store.open(tmp_path / "a") as store:
        made, said = events_of(Bench(engine, store, {"m": "0" * 64}))
        check_once(store, made, drawn)
    assert [one.plan.id for one in made] == undisturbed(tmp_path / "b")
    (finding,) = (one for one in said if one.code == "SOS-E040")
    assert "card 0 was lost in mid-run" in finding.message
    assert "an illegal memory access was encountered" in finding.message


def test_when_the_only_card_is_lost_the_run_ends_and_the_next_one_does_only_the_rest(tmp_path: Path) -> None:
    drawn = list[str]()

    def fail() -> None:
        if len(drawn) == 4:
            raise LostError("the card failed while it drew", "the same command does what is left")

    with Store.open(tmp_path / "a") as store:
        bench = Bench(Crew([Member("card 0", Painter(drawn, fail))]), store, {"m": "0" * 64})
        with pytest.raises(LostError, match=r"no card is left for 1 image"):
            events_of(bench)
        assert store.counts()["renders"] == store.counts()["scorecards"] == len(drawn) == 4
        made, _ = events_of(Bench(Painter(drawn), store, {"m": "0" * 64}))
        check_once(store, made, drawn)
    assert [one.plan.id for one in made] == undisturbed(tmp_path / "b")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.once
def test_a_command_that_is_told_to_end_says_so_and_the_same_command_does_only_the_rest(
    sosie: Callable[..., Any], workspace: Path, tmp_path: Path
) -> None:
    words = ["generate", "mira", "smiling", "-n", 5, "--seed", 11, "--engine", "fake", "--out", tmp_path / "out"]
    words += ["--workspace", workspace, "--json"]
    command = [sys.executable, "-c", "from sosie.cli import main; main()", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    below = children_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, bool(below)) == (130, True)
    assert "error: interrupted; what was finished is in the store" in err
    assert "run the same command again" in err
    catalogue = workspace / ".sosie" / "catalogue.sqlite"
    before = Counter(plan for (plan,) in ask(catalogue, "SELECT plan FROM renders"))
    assert before
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    again = sosie(*words)
    assert again.code == 0, again.err
    after = Counter(plan for (plan,) in ask(catalogue, "SELECT plan FROM renders"))
    assert set(before) <= set(after)
    assert set(after.values()) == {1}
    names = [path.name for path in (tmp_path / "out").glob("mira-*.png")]
    assert len(names) == len(ask(catalogue, "SELECT path FROM deliveries")) == 5


def children_of(pid: int) -> list[int]:
    """The processes that a process began; of Linux."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    found = (re.match(r"(\d+) \(.*\) \S (\d+)", text, re.DOTALL) for text in stats)
    return [int(match[1]) for match in found if match and int(match[2]) == pid]
