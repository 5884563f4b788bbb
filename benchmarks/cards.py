"""Seconds an image on one card and on several of one machine, with random weights at full size, in one run.

    python benchmarks/cards.py [--devices all] [--images 24] [--rounds 2]

An image is `sdxl-instantid` complete with the parts of `sdxl_memory.py`, accelerated: 30 steps at 1024x1536, the face
pass at 1024x1024, twelve tiles of the upscaler, and 4096x6144 pixels that reach the command. *here* is one card in the
command's own process, as without `--devices`; *1 card* has a process of its own; then come all of `--devices`. Crew,
processes, protocol and the way of the pixels are those of `sosie generate --devices`: what draws is brought by an entry
point. Every card is warm before the clock runs, and the ways take turns. What the command does with an image (encode,
store, judge, sign) is not in it.

`--tiny` rehearses on a CPU with two pretended cards and a small picture: it shows that all is drawn, not how fast.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sosie.api.engines import PLACES, make_engine
from sosie.core import Character, Draw, Environment, Finding, Plan, Progress, Recipe, Render, Request, Stage, plan
from sosie.engines.crew import Crew, Member
from sosie.engines.resident import ResidentEngine
from sosie.engines.resident_protocol import Role
from sosie.engines.scheme import Scheme, Supplies
from sosie.families.contract.draws import Settings
from sosie.machines.cards import Card, choose_cards, installed_cards
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

NAME = "benchmark-card"
TINY = "SOSIE_BENCHMARK_TINY"
RECIPE = Recipe("benchmark", (Stage("generate", "sdxl", "m"),), "{prompt}", 1024, 1536)
WHO = Character("nobody", "fictional", True)


class Drawing:
    """An engine that draws every stage of the recipe with random weights; what it shows is grey."""

    name = NAME

    def __init__(self) -> None:
        self._stack: Any = None
        self._tiny = os.environ.get(TINY) == "1"

    def check(self, _: Plan) -> list[Finding]:
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        from PIL import Image

        for one in plans:
            yield Progress("load", 0, 1)
            stack = self._stack = self._stack or self._made()
            started = time.perf_counter()
            for moment, work in stack.moments().items():
                yield Progress(moment, 0, 1)
                for _ in range(12 if moment == "upscale" and not self._tiny else 1):
                    work()
            self._wait()
            image = Image.new("RGB", (256, 384) if self._tiny else (4096, 6144), (one.seed % 256,) * 3)
            environment = Environment(platform.python_version(), "any", self.name, ())
            yield Render(image, one, self.name, environment, time.perf_counter() - started)

    def close(self) -> None:
        self._stack = None

    def _made(self) -> Any:
        import sdxl_memory
        import sdxl_parts
        import torch

        from sosie.diffusion.offload import place
        from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate

        if self._tiny:
            return sdxl_memory.Stack(sdxl_parts.Place(sdxl_parts.TINY), 64, 96, 64)
        where = sdxl_parts.Place(sdxl_parts.FULL_SIZE, "cuda", torch.bfloat16)
        stack = sdxl_memory.Stack(where, 1024, 1536, 1024)
        stack.steps = 30
        place(stack.body, "full", where.device, [stack.net])
        accelerate(stack.face, Levers())  # its UNet is the body's
        return stack

    def _wait(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def _open(_: str, __: Supplies) -> Drawing:
    return Drawing()


SCHEME = Scheme(NAME, NAME, _open, reads="nothing")


def bring(folder: Path) -> None:
    """Makes the scheme known to this process and to those that begin here."""
    info = folder / "benchmark_card-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: benchmark-card\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[sosie.engines]\n{NAME} = cards:SCHEME\n")
    own = [str(folder), str(Path(__file__).parent)]
    os.environ["PYTHONPATH"] = os.pathsep.join([*own, *filter(None, sys.path)])
    sys.path[:0] = own


def plans(count: int, seed: int) -> list[Plan]:
    request = Request("benchmark", WHO.name, "", seed=seed)
    return [plan(RECIPE, WHO, request, Draw(index), {"m": "0" * 64}) for index in range(count)]


def seconds(engine: Any, count: int, seed: int) -> float:
    """Wall seconds an image; raises if one is missing or there twice."""
    asked, started = plans(count, seed), time.perf_counter()
    made = [event.plan.id for event in engine.run(asked) if isinstance(event, Render)]
    wall = time.perf_counter() - started
    if sorted(made) != sorted(one.id for one in asked):
        raise SystemExit(f"{len(asked)} images were asked for, {len(set(made))} were drawn in {len(made)} renders")
    return wall / count


def crew(session: Session, cards: Iterable[Card]) -> Crew:
    """What `sosie generate --devices` opens."""
    root = str(session.workspace.root.resolve())
    workers = [(str(card), Role(root, NAME, Settings(), card.device)) for card in cards]
    return Crew(
        [
            Member(label, ResidentEngine(session.workspace, role, {}, 0.0))
            for _ in range(PLACES)
            for label, role in workers
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="all")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    os.environ[TINY] = "1" if options.tiny else "0"
    cards = (Card(0, "0"), Card(1, "1")) if options.tiny else choose_cards(options.devices, installed_cards())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bring(Path(folder) / "site")
        (Path(folder) / "work").mkdir()
        session = stack.enter_context(Session(open_workspace(Path(folder) / "work")))
        ways: dict[str, Any] = {
            "here": make_engine(session, NAME, {}),
            "1 card": crew(session, cards[:1]),
            f"{len(cards)} cards": crew(session, cards),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for way, engine in ways.items():
            stack.callback(engine.close)
            seconds(engine, 4 * (len(cards) if way.endswith("cards") else 1), 9)  # every card is warm
        for turn in range(options.rounds):
            for way, engine in ways.items():
                times[way].append(seconds(engine, options.images, 10 + turn))
    report(times, cards)


def report(times: dict[str, list[float]], cards: tuple[Card, ...]) -> None:
    print("| way | s an image, median (least) | times of here |\n| --- | --- | --- |")
    here = statistics.median(times["here"])
    for way, found in times.items():
        median = statistics.median(found)
        print(f"| {way} | {median:.3f} ({min(found):.3f}) | {here / median:.2f} |")
    models = sorted({card.model or "pretended" for card in cards})
    print("\n" + json.dumps({"cards": len(cards), "models": models, "cores": os.cpu_count(), "seconds": times}))


if __name__ == "__main__":
    main()
