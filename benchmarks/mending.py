"""Drawing seconds a kept image where few draws pass: by mending, by new seeds alone, and by plain best-of-N.

    python benchmarks/early_stop.py record CHARACTERS --out FOLDER --n 8 --held-out 4 --fmr 0.01
    python benchmarks/mending.py FOLDER... [--attempts 2 4]

Reads what the first command recorded: draws of people, and one mending of each that failed by its face alone. For each
gate a person has the rate with which a draw passes, that with which one fails by its face alone, and that with which a
mending passes (each with one more try that went as it does for all people). From these follows what three ways draw
for a kept image: Sosie's (draw; mend what fails by its face alone, once; draw anew), new seeds until one passes, and
best-of-N, all at the share of images that Sosie gives within so many attempts; tries and N are mixed of two whole
numbers. *Worth*: passes a core-second of a mending, over those of another draw of the same person. A picture costs the
median core-seconds of its kind. Prompts of a person are taken together, which favours best-of-N. Intervals: bootstrap
over people, and over the draws of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BOOTSTRAP = 1000
MOST = 60
"""Of N and of tries."""

HIGHER = {"sface": True, "dlib": False}
"""Whether more is more alike."""


@dataclass(frozen=True)
class Shot:
    """A draw: whether it passed, whether it was mended and then passed (None: not mended)."""

    passed: bool
    mended: bool | None


People = list[list[Shot]]
"""The draws of each person."""


@dataclass(frozen=True)
class Rates:
    """Of one person: how often a draw passes, fails by its face alone, and how often a mending passes."""

    passes: float
    mendable: float
    mended: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--attempts", type=int, nargs="+", default=[2, 4])
    asked = parser.parse_args()
    rows = [json.loads(line) for one in asked.folders for line in (one / "attempts.jsonl").read_text().splitlines()]
    cost = {kind: float(np.median([row["draw"] for row in rows if row["repair"] is kind])) for kind in (False, True)}
    print(f"{len(rows)} attempts; a draw takes {cost[False]:.2f} core-seconds, a mending {cost[True]:.2f}\n")
    columns = ("gate", "a draw passes", "a mending passes", "worth", "attempts", "share", "Sosie, s", "over new seeds")
    print(f"| {' | '.join(columns)} | over best-of-N, N |\n|{' --- |' * (len(columns) + 1)}")
    for gate in sorted(rows[0]["gates"], key=float, reverse=True):
        people = people_of(rows, gate)
        shots = [shot for own in people for shot in own]
        mended = [shot.mended for shot in shots if shot.mended is not None]
        rates = f"{np.mean([shot.passed for shot in shots]):.0%} of {len(shots)}"
        rates += f" | {np.mean(mended or [np.nan]):.0%} of {len(mended)}"
        for attempts in asked.attempts:
            print(f"| {float(gate):.0%} | {rates} | {line(people, attempts, cost)} |", flush=True)


def people_of(rows: Sequence[dict[str, Any]], gate: str) -> People:
    """The draws of each person, judged by a gate."""
    mendings = {row["before"]: row for row in rows if row["repair"]}
    people: dict[str, list[Shot]] = {}
    for row in (row for row in rows if not row["repair"]):
        passed, mending = passes(row, gate), mendings.get(row["plan"])
        by_face = not passed and not others(row)
        if by_face and mending is None:
            continue  # the recording ended between the two
        shot = Shot(passed, passes(mending, gate) if by_face and mending else None)
        people.setdefault(row["character"], []).append(shot)
    return list(people.values())


def others(row: dict[str, Any]) -> list[str]:
    """Why an attempt failed but for its likeness."""
    return [reason for reason in row["reasons"] if reason.split()[0] not in HIGHER]


def passes(row: dict[str, Any], gate: str) -> bool:
    """Whether an attempt passes both judges of a gate, and everything else."""
    limits, scores = row["gates"][gate], row["scores"]
    alike = all(
        name in scores and (scores[name] >= limit if HIGHER[name] else scores[name] <= limit)
        for name, limit in limits.items()
    )
    return alike and not others(row)


def line(people: People, attempts: int, cost: dict[bool, float]) -> str:
    """The rest of a row: shares, seconds, and ratios with intervals."""
    random = np.random.default_rng(1)
    share, sosie, seeds, best, n = figures(people, attempts, cost)
    drawn = [picked(people, random) for _ in range(BOOTSTRAP)]
    ways = [figures(one, attempts, cost) for one in drawn]
    ratios = (
        [worth(one, cost) for one in drawn],
        [one[1] / one[2] for one in ways],
        [one[1] / one[3] for one in ways],
    )
    own = (worth(people, cost), sosie / seeds, sosie / best)
    ends = [np.nanpercentile(values, [2.5, 97.5]) for values in ratios]
    told = [f"{value:.2f} ({low:.2f} to {high:.2f})" for value, (low, high) in zip(own, ends, strict=True)]
    return f"{told[0]} | {attempts} | {share:.1%} | {sosie:.2f} | {told[1]} | {told[2]}, {n:.1f}"


def picked(people: People, random: np.random.Generator) -> People:
    """A bootstrap sample: people, and of each draws."""
    chosen = [people[int(at)] for at in random.integers(0, len(people), len(people))]
    return [[own[int(at)] for at in random.integers(0, len(own), len(own))] for own in chosen]


def worth(people: People, cost: dict[bool, float]) -> float:
    """Passes a core-second of the mendings, over those that another draw of the same person would have had."""
    mended, other = list[float](), list[float]()
    for own in people:
        for shot in (shot for shot in own if shot.mended is not None):
            mended.append(float(bool(shot.mended)))
            other.append(sum(one.passed for one in own) / max(1, len(own) - 1))  # of the others: this one failed
    return (sum(mended) / cost[True]) / (sum(other) / cost[False]) if sum(other) else float("nan")


def rates_of(people: People) -> list[Rates]:
    """Each person's rates, with one more try that went as it does for all."""
    every = [shot for own in people for shot in own]
    passed = sum(shot.passed for shot in every) / len(every)
    tried = [shot.mended for shot in every if shot.mended is not None]
    mended = sum(tried) / len(tried) if tried else 0.0
    rates: list[Rates] = []
    for own in people:
        own_tried = [shot.mended for shot in own if shot.mended is not None]
        passing = (sum(shot.passed for shot in own) + passed) / (len(own) + 1)
        mendable = (len(own_tried) + len(tried) / len(every)) / (len(own) + 1)
        rates.append(Rates(passing, mendable, (sum(own_tried) + mended) / (len(own_tried) + 1)))
    return rates


def sosies(rates: Rates, attempts: int) -> tuple[float, float, float]:
    """The share with an image within so many attempts, and the draws and mendings that it takes."""
    if attempts == 0:
        return 0.0, 0.0, 0.0
    after = sosies(rates, attempts - 1)
    failed = 1 - rates.passes - rates.mendable
    share, draws, mends = rates.passes + failed * after[0], 1 + failed * after[1], failed * after[2]
    if attempts == 1:
        return share, draws, mends
    later, unmended = sosies(rates, attempts - 2), rates.mendable * (1 - rates.mended)
    share += rates.mendable * rates.mended + unmended * later[0]
    return share, draws + unmended * later[1], mends + rates.mendable + unmended * later[2]


def figures(people: People, attempts: int, cost: dict[bool, float]) -> tuple[float, float, float, float, float]:
    """The share, and seconds a kept image of the three ways at that share; and N. Infinite where it is not reached."""
    rates = rates_of(people)
    share, draws, mends = np.mean([sosies(one, attempts) for one in rates], axis=0).tolist()
    if not share:
        return 0.0, np.inf, np.nan, np.nan, np.nan
    spent = draws * cost[False] + mends * cost[True]
    each = np.array([one.passes for one in rates])
    found = [float(np.mean(1 - (1 - each) ** n)) for n in range(MOST + 1)]
    tried = [float(np.mean((1 - (1 - each) ** n) / np.maximum(each, 1e-9))) for n in range(MOST + 1)]
    above = next((n for n, value in enumerate(found) if value >= share - 1e-9), None)
    if above is None:
        return share, spent / share, np.inf, np.inf, np.inf
    part = (share - found[above - 1]) / (found[above] - found[above - 1])
    n = above - 1 + part
    seeds = tried[above - 1] + part * (tried[above] - tried[above - 1])
    return share, spent / share, seeds * cost[False] / share, n * cost[False] / share, n


if __name__ == "__main__":
    main()
