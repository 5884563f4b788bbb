"""Drawing seconds a kept image where few draws pass: by mending, by new seeds alone, and by plain best-of-N.

    python benchmarks/early_stop.py record CHARACTERS --out FOLDER --n 8 --held-out 4 --fmr 0.01
    python benchmarks/mending.py FOLDER... [--attempts 2 4 8]

Reads what the first command recorded: draws of a person and prompt, and one mending of each that failed by its face
alone. From these the three ways are played for each gate, draws in random order and none twice: Sosie's (draw; mend
what fails by its face alone, once; draw anew), new seeds until one passes, and best-of-N. All are asked for as large a
share of images as Sosie gives within so many attempts: N, and the tries of new seeds, are mixed of two whole numbers
so that the shares are equal. A picture costs the median core-seconds of its kind. Intervals: bootstrap over people,
and over the prompts of each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PLAYS = 60
"""Orders in which the draws of a person and prompt are taken."""

BOOTSTRAP = 1000
HIGHER = {"sface": True, "dlib": False}
"""Whether more is more alike."""


@dataclass(frozen=True)
class Shot:
    """A draw: whether it passed, whether it was mended and then passed (None: not mended)."""

    passed: bool
    mended: bool | None


@dataclass(frozen=True)
class Played:
    """Of one person and prompt, means over orders: by tries from 1 on, the share with an image and what was drawn.

    Sosie's are `share`, `draws` and `mends` within the attempts that were asked for; those of new seeds `found` and
    `tried`, by their number.
    """

    share: float
    draws: float
    mends: float
    found: tuple[float, ...]
    tried: tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--attempts", type=int, nargs="+", default=[2, 4, 8])
    asked = parser.parse_args()
    rows = [json.loads(line) for one in asked.folders for line in (one / "attempts.jsonl").read_text().splitlines()]
    cost = {kind: float(np.median([row["draw"] for row in rows if row["repair"] is kind])) for kind in (False, True)}
    print(f"{len(rows)} attempts; a draw takes {cost[False]:.2f} core-seconds, a mending {cost[True]:.2f}")
    print(
        "| gate | a draw passes | a mending passes | attempts | share | Sosie, s | over new seeds | over best-of-N, N |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for gate in sorted(rows[0]["gates"], key=float, reverse=True):
        cells = cells_of(rows, gate)
        shots = [shot for cell in cells.values() for shot in cell]
        mended = [shot.mended for shot in shots if shot.mended is not None]
        rates = f"{np.mean([shot.passed for shot in shots]):.0%} of {len(shots)}"
        rates += f" | {np.mean(mended or [np.nan]):.0%} of {len(mended)}"
        for attempts in asked.attempts:
            print(f"| {float(gate):.0%} | {rates} | {attempts} | {line(cells, attempts, cost)} |", flush=True)


def cells_of(rows: Sequence[dict[str, Any]], gate: str) -> dict[tuple[str, int], list[Shot]]:
    """The draws of each person and prompt, judged by a gate."""
    mendings = {row["before"]: row for row in rows if row["repair"]}
    cells: dict[tuple[str, int], list[Shot]] = {}
    for row in (row for row in rows if not row["repair"]):
        passed, mending = passes(row, gate), mendings.get(row["plan"])
        by_face = not passed and not others(row)
        if by_face and mending is None:
            continue  # the recording ended between the two
        shot = Shot(passed, passes(mending, gate) if by_face and mending else None)
        cells.setdefault((row["character"], row["prompt"]), []).append(shot)
    return cells


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


def line(cells: dict[tuple[str, int], list[Shot]], attempts: int, cost: dict[bool, float]) -> str:
    """The rest of a row: shares, seconds, and ratios with intervals."""
    random = np.random.default_rng(1)
    played = {key: play(shots, attempts, random) for key, shots in cells.items()}
    people: dict[str, list[Played]] = {}
    for (who, _), one in played.items():
        people.setdefault(who, []).append(one)
    share, sosie, seeds, best, n = figures(list(played.values()), cost)
    drawn = [figures(picked(people, random), cost) for _ in range(BOOTSTRAP)]
    low = np.nanpercentile([(one[1] / one[2], one[1] / one[3]) for one in drawn], [2.5, 97.5], axis=0)
    told = [f"{sosie / other:.2f} ({low[0][at]:.2f} to {low[1][at]:.2f})" for at, other in enumerate((seeds, best))]
    return f"{share:.0%} | {sosie:.2f} | {told[0]} | {told[1]}, {n:.1f}"


def picked(people: dict[str, list[Played]], random: np.random.Generator) -> list[Played]:
    """A bootstrap sample: people, and of each prompts."""
    names = list(people)
    chosen = [people[names[at]] for at in random.integers(0, len(names), len(names))]
    return [own[at] for own in chosen for at in random.integers(0, len(own), len(own))]


def play(shots: Sequence[Shot], attempts: int, random: np.random.Generator) -> Played:
    """Both ways on the same orders of draws; a try that there is no draw for finds nothing and costs nothing."""
    orders: list[list[Shot]] = [[shots[int(at)] for at in random.permutation(len(shots))] for _ in range(PLAYS)]
    share, draws, mends = np.mean([sosies(order, attempts) for order in orders], axis=0)
    firsts = [next((at + 1 for at, shot in enumerate(order) if shot.passed), len(order) + 1) for order in orders]
    tries = range(1, len(shots) + 1)
    found = tuple(float(np.mean([first <= n for first in firsts])) for n in tries)
    tried = tuple(float(np.mean([min(first, n) for first in firsts])) for n in tries)
    return Played(float(share), float(draws), float(mends), found, tried)


def sosies(order: Sequence[Shot], attempts: int) -> tuple[bool, int, int]:
    """Whether one is kept, and how many are drawn and mended for it."""
    draws = mends = 0
    for shot in order:
        if draws + mends == attempts:
            break
        draws += 1
        if shot.passed:
            return True, draws, mends
        if shot.mended is not None and draws + mends < attempts:
            mends += 1
            if shot.mended:
                return True, draws, mends
    return False, draws, mends


def figures(played: Sequence[Played], cost: dict[bool, float]) -> tuple[float, float, float, float, float]:
    """The share, and seconds a kept image of the three ways at that share; and N. Infinite where it is not reached."""
    share = float(np.mean([one.share for one in played]))
    if not share:
        return 0.0, np.inf, np.nan, np.nan, np.nan
    spent = sum(one.draws * cost[False] + one.mends * cost[True] for one in played) / len(played)
    most = max(len(one.found) for one in played)
    found = [0.0] + [mean(played, lambda one, n=n: one.found[min(n, len(one.found)) - 1]) for n in range(1, most + 1)]
    tried = [0.0] + [mean(played, lambda one, n=n: one.tried[min(n, len(one.tried)) - 1]) for n in range(1, most + 1)]
    above = next((n for n, value in enumerate(found) if value >= share - 1e-9), None)
    if above is None:
        return share, spent / share, np.inf, np.inf, np.inf
    part = (share - found[above - 1]) / (found[above] - found[above - 1])
    n = above - 1 + part
    seeds = tried[above - 1] + part * (tried[above] - tried[above - 1])
    return share, spent / share, seeds * cost[False] / share, n * cost[False] / share, n


def mean(played: Sequence[Played], of: Callable[[Played], float]) -> float:
    return float(np.mean([of(one) for one in played]))


if __name__ == "__main__":
    main()
