"""What the bookkeeping of an experiment costs a cell: its processor time less that of drawing and judging.

    python benchmarks/lab_overhead.py [--seeds 24] [--sides 64 256 1024]

Three arms x two prompts x the seeds are drawn by an engine that hands over one photograph-like picture, and judged by
one pixel; the processor time within the engine and the judge is taken off. What is left is planning, storing (PNG,
catalogue, syncs), scheduling and the statistics; beside it the same cells when the store has them, and the result.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sosie.core import Environment, Finding, Plan, Progress, Render
from sosie.core.experiment_result import Design
from sosie.lab.assemble import Times, assemble
from sosie.store import Store

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
AT = "2026-11-30T10:00:00+00:00"


@dataclass
class Spent:
    """Processor seconds within the engine and the judge, and how many pictures were drawn."""

    seconds: float = 0.0
    pictures: int = 0


class Engine:
    """An engine that hands over one picture again and again, its score in the first pixel; its time is counted."""

    name = "grey"

    def __init__(self, picture: Image.Image, spent: Spent) -> None:
        self.picture, self.spent = picture, spent

    def check(self, plan: Plan) -> list[Finding]:
        del plan
        return []

    def run(self, plans: Sequence[Plan]) -> Iterator[Progress | Render]:
        for plan in plans:
            began = time.thread_time()
            image = self.picture.copy()
            image.putpixel((0, 0), (100 + self.spent.pictures % 50,) * 3)
            self.spent.pictures += 1
            self.spent.seconds += time.thread_time() - began
            yield Render(image, plan, self.name, Environment("3", "any", "none", ()), 0.5)

    def close(self) -> None:
        return None


def counted(judge: type[Any], spent: Spent) -> None:
    """From now on the time of this judge is counted too."""
    call = judge.__call__

    def measured(self: Any, *given: Any) -> Any:
        began = time.thread_time()
        try:
            return call(self, *given)
        finally:
            spent.seconds += time.thread_time() - began

    judge.__call__ = measured


def cells(side: int, seeds: int, spent: Spent) -> str:
    """A row of the table for pictures of `side` px."""
    bench: Any = importlib.import_module("lab_bench")
    with Image.open(ROOT / "examples" / "mira" / "00.jpg") as image:
        picture = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    asked = bench.experiment(seeds=tuple(range(1, seeds + 1)), design=Design("cfg=4", "grey", margin=0.02))
    engine: Any = Engine(picture, spent)
    figures: list[float] = []
    made: Any = None
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / ".sosie") as store:
        for _ in range(2):
            taken, drawn, began = spent.seconds, spent.pictures, time.process_time()
            made = bench.course(bench.trial(Path(folder), asked, engine, store))
            for _event in made.run():
                pass
            whole = time.process_time() - began
            figures += [1000 * (whole - spent.seconds + taken), spent.pictures - drawn]
        began = time.process_time()
        count = len(assemble(made, Times(AT, AT)).cells)
        result = 1000 * (time.process_time() - began)
    new, drawn, again, redrawn = figures
    assert not redrawn, "what the store has is not drawn again"
    return f"| {side} | {count} | {new / drawn:.1f} | {again / count:.1f} | {result:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--sides", type=int, nargs="+", default=(64, 256, 1024))
    asked = parser.parse_args()
    spent = Spent()
    bench: Any = importlib.import_module("lab_bench")
    counted(bench.GreyJudge, spent)
    print("| side, px | cells | ms of a core a cell that is drawn | a cell that the store has | the result, once |")
    print("|---|---|---|---|---|")
    cells(64, 2, spent)  # imports
    for side in asked.sides:
        print(cells(side, asked.seeds, spent), flush=True)


if __name__ == "__main__":
    main()
