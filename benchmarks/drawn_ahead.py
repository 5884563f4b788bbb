"""How many attempts are drawn ahead in vain, and what drawing ahead saves: the real schedule, on pretended time.

    python benchmarks/drawn_ahead.py [--runs 200] [--cards 1] [--draw 3.0] [--verdict 4.0]

A card draws an image in `--draw` seconds, and its verdict is there `--verdict` seconds later. Images pass at a rate
from 0.1 to 0.95; with repairs, half of those that do not are repaired, and a repair passes as often as an image. Runs
are of as many images as make 32 attempts or more (and of one image, for the time that it takes).
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from sosie.core import Character, Recipe, Request, Stage
from sosie.loop.schedule import Schedule, Step
from sosie.loop.stages import WORTH
from sosie.loop.task import Task

RATES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95)
STAGE = Stage("generate", "sdxl", "m")
RECIPE = Recipe("r", (STAGE,), "{prompt}", 64, 64, repair=(STAGE,))


@dataclass(frozen=True)
class Case:
    """What a run is like: pass rate, share of failures that are repaired, cards, and seconds."""

    rate: float
    repaired: float = 0.0
    cards: int = 1
    draw: float = 3.0
    verdict: float = 4.0
    ahead: bool = True


@dataclass(frozen=True)
class Ran:
    """Attempts that were needed, those in vain, and the seconds until all was judged; `busy` is the cards' share."""

    needed: int
    in_vain: int
    seconds: float
    busy: float


def simulate(case: Case, n: int, seed: int, budget: int = 10_000) -> Ran:
    """One run of a task of `n` images."""
    judge: Any = None
    task = Task("t", RECIPE, Character("mira", "fictional", True), Request("r", "mira", "x"), n, budget, judge)
    schedule = Schedule([task], {"m": "0" * 64})
    pays = case.ahead and case.verdict > WORTH * case.draw
    now, busy, idle, unique = 0.0, 0.0, case.cards, count()
    events: list[tuple[float, int, str, Step]] = []
    judged_once = False
    while not schedule.done:
        while idle and (step := schedule.next() or (schedule.guess() if pays and judged_once else None)):
            idle -= 1
            heapq.heappush(events, (now + case.draw, next(unique), "drawn", step))
        if not events:
            break
        now, _, what, step = heapq.heappop(events)
        if what == "drawn":
            idle, busy = idle + 1, busy + case.draw
            step.pixels = step.plan.id
            heapq.heappush(events, (now + case.verdict, next(unique), "seen", step))
        elif step.sure:
            judged_once = True
            waiting = [step]
            while waiting:
                one = waiting.pop()
                waiting += [ahead for ahead in schedule.judged(one, outcome(case, one, seed)) if known(ahead, events)]
    return Ran(schedule.needed, schedule.in_vain, now, busy / (now * case.cards))


def known(ahead: Step, events: list[tuple[float, int, str, Step]]) -> bool:
    """Whether a step that was drawn ahead is needed and has waited for its verdict long enough."""
    return ahead.sure and not any(step is ahead for *_, step in events)


def outcome(case: Case, step: Step, seed: int) -> Any:
    """What becomes of an image: the same whenever it is drawn."""
    random_ = random.Random(f"{seed} {step.plan.id}")
    if random_.random() < case.rate:
        return "keep"
    return "repair" if not step.plan.draw.is_repair and random_.random() < case.repaired else "retry"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--cards", type=int, default=1)
    parser.add_argument("--draw", type=float, default=3.0)
    parser.add_argument("--verdict", type=float, default=4.0)
    given = parser.parse_args()
    print(
        "| pass rate | repairs | in vain, runs of 32 and more: mean (most) | card busy | one image: seconds | alone |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for rate in RATES:
        for repaired in (0.0, 0.5):
            case = Case(rate, repaired, given.cards, given.draw, given.verdict)
            serial = Case(rate, repaired, given.cards, given.draw, given.verdict, ahead=False)
            runs = [simulate(case, max(2, round(40 * rate)), seed) for seed in range(given.runs)]
            runs = [run for run in runs if run.needed + run.in_vain >= 32]
            shares = [run.in_vain / (run.needed + run.in_vain) for run in runs] or [float("nan")]
            ones = [np.mean([simulate(one, 1, seed).seconds for seed in range(given.runs)]) for one in (case, serial)]
            busy = np.mean([run.busy for run in runs])
            print(
                f"| {rate} | {'half' if repaired else 'none'} | {np.mean(shares):.3f} ({max(shares):.3f}), {len(runs)} "
                f"runs | {busy:.2f} | {ones[0]:.1f} | {ones[1]:.1f} |"
            )


if __name__ == "__main__":
    main()
