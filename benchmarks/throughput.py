"""What a card waits for: one thing after another and on the line, in one run: seconds, core-seconds and memory.

    python benchmarks/throughput.py [--attempts 24] [--size 4096x6144] [--draw 3.0]
    python benchmarks/throughput.py --card [--attempts 24]
    python benchmarks/throughput.py --mini IMAGES... [--attempts 4] [--rounds 3]

A pretended card draws by sleeping `--draw` seconds. `--card` draws `sdxl-instantid` complete on a GPU with random
weights at full size (`sdxl_complete.py`; `--tiny` rehearses it on a CPU). What comes out is always a portrait with
grain, so that encoder and judges have what they have in use: watermark, PNG, the judges that are installed (the last
line names them), all checks, signature. `--mini` draws with `mini` itself and the character of IMAGES. Each kind of
run is a process of its own; its memory is that of all its processes, what they share counted once for each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sosie.api.characters import new_character
from sosie.api.engines import open_engine
from sosie.api.outbox import Outbox, signing_key
from sosie.core import Character, Environment, Finding, Plan, Progress, Recipe, Render, Request, Stage
from sosie.core.plan import needed_stages
from sosie.files.images import read_image
from sosie.loop.attempts import run
from sosie.loop.judge import Judge
from sosie.loop.judge_room import Processes
from sosie.loop.judging import make_judge
from sosie.loop.task import Attempt, Bench, Task
from sosie.store import Store
from sosie.workspace.bill import resolve
from sosie.workspace.characters import CharacterFile
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples" / "mira").glob("*.jpg"))
DETAILS = CharacterFile("mira", "fictional", True, "a young woman, light skin, braided auburn hair, brown eyes")
PROMPT = "smiling, soft daylight, forest background"
WAYS = ("serial", "line")
RECIPE = Recipe("throughput", (Stage("generate", "sdxl", "random"),), "{prompt}", 1024, 1536)
ASSETS: Mapping[str, str] = {"random": "0" * 64}


@dataclass(frozen=True)
class Measured:
    """One run: wall seconds and core-seconds an attempt, the card's share of the wall time, bytes at most, judges."""

    way: str
    attempts: int
    kept: int
    wall: float
    card: float
    cores: float
    peak: int
    judges: tuple[str, ...]


class Portraits:
    """Large portraits with grain, each plan its own, made beforehand but for a corner."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageOps

        grain = np.random.default_rng(0).normal(0, 3, (height, width, 3)).astype(np.float32)
        large = [
            np.clip(
                np.asarray(ImageOps.fit(read_image(path), (width, height), Image.Resampling.LANCZOS)) + grain, 0, 255
            )
            for path in EXAMPLES[:2]
        ]
        self._pictures: list[Any] = [picture.astype(np.uint8) for picture in large]

    def of(self, plan: Plan) -> Any:
        from PIL import Image

        picture = self._pictures[plan.seed % len(self._pictures)].copy()
        picture[:8, :8] = np.random.default_rng(plan.seed).integers(0, 256, (8, 8, 3))
        return Image.fromarray(picture)


class Pretended:
    """A card that draws by sleeping. `busy` is how long it drew."""

    name = "pretended"

    def __init__(self, portraits: Portraits, seconds: float) -> None:
        self._portraits, self._seconds = portraits, seconds
        self.busy = 0.0

    def check(self, _: Plan) -> list[Finding]:
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        for plan in plans:
            yield Progress("generate", 0, 1)
            start = time.perf_counter()
            self._draw()
            self.busy += time.perf_counter() - start
            image = self._portraits.of(plan)
            environment = Environment(platform.python_version(), "any", self.name, ())
            yield Render(image, plan, self.name, environment, time.perf_counter() - start)

    def _draw(self) -> None:
        time.sleep(self._seconds)

    def close(self) -> None:
        pass


class Card(Pretended):
    """A GPU that draws with random weights; `busy` is what it took with nothing left to do."""

    name = "card"

    def __init__(self, portraits: Portraits, tiny: bool) -> None:
        import sdxl_complete

        super().__init__(portraits, 0.0)
        self._parts, self._finish = sdxl_complete.parts(tiny=tiny), sdxl_complete.finish
        self._draw()

    def _draw(self) -> None:
        for part in self._parts.values():
            part()
        self._finish()  # as the engine waits for its pictures


class Watched:
    """An engine whose time at work is counted: from when it is given a plan until it gives the image."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.name, self.check, self.close = engine.name, engine.check, engine.close
        self.busy = 0.0

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        for event in self._engine.run(plans):
            if isinstance(event, Render):
                self.busy += event.seconds
            yield event


class Peak:
    """The memory of this process and its children, looked at twenty times a second."""

    def __enter__(self) -> Peak:
        self.bytes, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._over.wait(0.05):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.bytes = max(self.bytes, total)


def core_seconds() -> float:
    """User and system time of this process and of its children, those that have ended too."""
    own = psutil.Process()
    times = [child.cpu_times() for child in own.children(recursive=True)]
    ended = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in ended) + sum(one.user + one.system for one in times)


def measure(options: argparse.Namespace, way: str) -> Measured:
    """One run of attempts of a pretended or a real card, one thing after another or on the line."""
    root = Path(tempfile.mkdtemp())
    with Session(open_workspace(root)) as session, Processes() as room:
        who = new_character(session, DETAILS, EXAMPLES).character
        judge, _ = make_judge(session, who, RECIPE, None)
        width, height = map(int, options.size.split("x"))
        portraits = Portraits(width, height)
        engine: Any = Card(portraits, options.tiny) if options.card else Pretended(portraits, options.draw)
        desk = Desk(session, Bench(engine, session.store, ASSETS, room), who, RECIPE, judge)
        block(desk, session.store, way, (1, 9))
        measured, _ = block(desk, session.store, way, (options.attempts, 0))
    return measured


@dataclass(frozen=True, eq=False)
class Desk:
    """What all runs of a process share."""

    session: Session
    bench: Bench
    character: Character
    recipe: Recipe
    judge: Judge


def block(desk: Desk, store: Store, way: str, work: tuple[int, int]) -> tuple[Measured, list[Attempt]]:
    """So many attempts from a seed on, into a store."""
    attempts, seed = work
    outbox = Outbox(store.begin_run("throughput", {}), Path(tempfile.mkdtemp()), key=signing_key(desk.session))
    bench: Any = replace(desk.bench, store=store, deliver=outbox.deliver)
    request = Request(desk.recipe.name, "mira", PROMPT, seed=seed)
    task = Task("t", desk.recipe, desk.character, request, attempts, attempts, desk.judge)
    bench.engine.busy, before = 0.0, core_seconds()
    with Peak() as peak:
        start = time.perf_counter()
        done = list(_work(way, [task], bench, outbox))
        wall = time.perf_counter() - start
    cores = core_seconds() - before
    kept, n = sum(one.verdict.outcome == "keep" for one in done), len(done)
    judges = tuple(one.encoder.name for one in desk.judge.gate.judges)
    return Measured(way, n, kept, wall / n, bench.engine.busy / wall, cores / n, peak.bytes, judges), done


def _work(way: str, tasks: Sequence[Task], bench: Bench, outbox: Outbox) -> Iterator[Attempt]:
    if way == "line":
        yield from (event for event in run(tasks, bench) if isinstance(event, Attempt))
        return
    sys.path.append(str(ROOT / "tests" / "support"))
    serial: Any = importlib.import_module("serial_run")
    for attempt in serial.serial_run(tasks, bench.engine, bench.store, bench.assets):
        if attempt.verdict.outcome == "keep":
            outbox.deliver(attempt, bench.store)
        yield attempt


def compare(options: argparse.Namespace) -> None:
    """Draws with `mini` both ways in turn, and prints each run and what is hidden."""
    root = Path(tempfile.mkdtemp())
    with Session(open_workspace(root)) as session, Processes() as room:
        who = new_character(session, DETAILS, options.images or EXAMPLES).character
        recipe = load_recipe(session.workspace, "mini")
        bill = resolve(session.workspace, needed_stages(recipe, who), who)
        judge, _ = make_judge(session, who, recipe, bill)
        engine: Any = Watched(open_engine(session, "diffusers", bill, who))
        desk = Desk(session, Bench(engine, session.store, bill.digests, room), who, recipe, judge)
        runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
        same = n = 0
        for turn in range(options.rounds + 1):
            facts: dict[str, list[Any]] = {}
            for way in WAYS if turn % 2 else WAYS[::-1]:
                with Store.open(root / f"{turn}-{way}") as store:
                    one, done = block(desk, store, way, (options.attempts if turn else 1, turn))
                facts[way] = [(it.plan.id, it.stored.pixels, it.scorecard, it.verdict) for it in done]
                if turn:  # the first ones load everything
                    runs[way].append(one)
                    print(row(one), flush=True)
            same, n = same + sum(map(eq, *facts.values())), n + max(map(len, facts.values()))
        engine.close()
    pairs = list(zip(*runs.values(), strict=True))
    ratios = [line.wall / serial.wall for serial, line in pairs]
    idle = {way: sum(one.wall * (1 - one.card) for one in told) for way, told in runs.items()}
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"\nA line's attempt takes {np.median(ratios):.2f} of a serial one's seconds ({told}).")
    print(f"Of the seconds in which a serial run does not draw the line hides {1 - idle['line'] / idle['serial']:.0%}.")
    print(f"{same} of {n} attempts have the same plan, pixels, scores and verdict. {where(runs['line'][0])}")


def row(one: Measured) -> str:
    return (
        f"| {one.way} | {one.attempts} ({one.kept}) | {one.wall:.2f} | {100 * one.card:.0f} % | {one.cores:.2f} | "
        f"{one.peak / 1e9:.2f} |"
    )


def where(one: Measured) -> str:
    """The judges and the machine."""
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}"
    return f"Judges: {', '.join(one.judges)}. {machine}, {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--attempts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="4096x6144")
    parser.add_argument("--draw", type=float, default=3.0)
    parser.add_argument("--card", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--mini", action="store_true")
    parser.add_argument("--way", choices=WAYS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(asdict(measure(options, options.way))))
        return
    print("| way | attempts (kept) | s an attempt | card at work | core-seconds an attempt | memory at most, GB |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    if options.mini:
        compare(options)
    for way in WAYS if not options.mini else ():
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        one = Measured(**json.loads(out.splitlines()[-1]))
        print(row(one) + ("" if way != WAYS[-1] else f"\n\n{where(one)}"), flush=True)


if __name__ == "__main__":
    main()
