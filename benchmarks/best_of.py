"""Drawing seconds a kept image: what Sosie draws until one passes, against plain best-of-N that is as sure of one.

    python benchmarks/best_of.py CHARACTERS_FOLDER [--draws 6] [--prompts 6]

The folder holds a folder of references for each person, with `captions.jsonl` (as `mini`'s eight people have).
Best-of-N draws N images of a prompt by the same recipe, without mending, and takes the best; here N is the smallest
with which as large a share of prompts has an image that passes the same gate as Sosie gives. Both are drawn: `--draws`
images a prompt for the one, `generate -n 1` with as many attempts for the other. A picture costs the median seconds of
its kind on this machine. Intervals: bootstrap over persons and prompts.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from identity import described

from sosie.api.characters import new_character
from sosie.api.generation import Order, generate
from sosie.core import Character, Plan, Recipe
from sosie.store.record import Record, StoredAttempt
from sosie.workspace.characters import CharacterFile
from sosie.workspace.prompts import PromptLine
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

PROMPTS = (
    "smiling, soft daylight, forest background",
    "neutral, studio light, plain grey background",
    "laughing, golden hour, beach background",
    "talking, neon light, city at night background",
    "serious, overcast, street background",
    "smiling, window light, room background",
)
BOOTSTRAP = 2000


@dataclass(frozen=True)
class Drawn:
    """Of one person and prompt: how often plain draws passed, of how many; and what Sosie drew, whole and mended."""

    passed: tuple[bool, ...]
    whole: int
    mended: int
    kept: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    asked = parser.parse_args()
    rows: list[Drawn] = []
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for folder in sorted(path for path in asked.people.iterdir() if path.is_dir()):
        rows += drawn(folder, asked.draws, PROMPTS[: asked.prompts], seconds)
        print(f"{folder.name}: {len(rows)} prompts", flush=True)
    print("\n".join(table(rows, {kind: float(np.median(times or [0.0])) for kind, times in seconds.items()})))


def drawn(folder: Path, draws: int, prompts: Sequence[str], seconds: dict[bool, list[float]]) -> list[Drawn]:
    """Draws both ways; the seconds of each picture go to those of its kind, mended or not."""
    root = Path(tempfile.mkdtemp())
    with Session(open_workspace(root)) as session:
        details = CharacterFile(folder.name, "fictional", True, described(folder))
        who = new_character(session, details, sorted(folder.glob("*.jpg"))).character
        recipe = load_recipe(session.workspace, "mini")
        plain = replace(recipe, name="plain", repair=())
        given = attempts(session, who, plain, prompts, draws, 1)
        ours = attempts(session, who, recipe, prompts, 1, draws)
        with Record(session.store.folder) as record:
            for one in record.renders():
                seconds[is_mended(one.plan)].append(one.seconds)
            sosie = record.renders(recipe=recipe.name)
    found: list[Drawn] = []
    for prompt in prompts:
        own = [one.plan for one in sosie if prompt in one.plan.prompt]
        kept = any(one.kept for one in ours if prompt in one.render.plan.prompt)
        passed = tuple(one.kept for one in given if prompt in one.render.plan.prompt)
        mended = sum(map(is_mended, own))
        found.append(Drawn(passed, len(own) - mended, mended, kept))
    return found


def attempts(
    session: Session, who: Character, recipe: Recipe, prompts: Sequence[str], n: int, tries: int
) -> list[StoredAttempt]:
    """Every judged image of a run of `n` images a prompt, within `tries` attempts each."""
    lines = tuple(PromptLine(prompt) for prompt in prompts)
    out = session.workspace.root / recipe.name
    order = Order(who, recipe, lines, n, 11 if recipe.repair else 5, out, attempts=tries, provenance=False)
    for _ in generate(session, order):
        pass
    with Record(session.store.folder) as record:
        return [one for one in record.judged(who.name) if one.render.plan.recipe == recipe.name]


def is_mended(plan: Plan) -> bool:
    """Whether a plan works on an image that was drawn before."""
    return bool(plan.source)


def table(rows: Sequence[Drawn], cost: dict[bool, float]) -> list[str]:
    """The figures, as Markdown."""
    random = np.random.default_rng(1)
    picks = [random.integers(0, len(rows), len(rows)) for _ in range(BOOTSTRAP)]
    ratios = [ratio([rows[at] for at in pick], cost) for pick in picks]
    low, high = np.nanpercentile([one for one in ratios if np.isfinite(one)] or [np.nan], [2.5, 97.5])
    sosie, share, n, best = figures(rows, cost)
    rate = np.mean([one for row in rows for one in row.passed])
    return [
        f"{len(rows)} prompts; a plain draw passes in {rate:.0%}; a whole picture takes {cost[False]:.2f} s, "
        f"a mended one {cost[True]:.2f} s",
        f"| Sosie | {share:.0%} of prompts have an image | {sosie:.2f} s a kept image |",
        f"| best of {n:.0f} | as many | {best:.2f} s a kept image |",
        f"| Sosie over best-of-N | | {sosie / best:.2f} ({low:.2f} to {high:.2f}) |",
    ]


def ratio(rows: Sequence[Drawn], cost: dict[bool, float]) -> float:
    sosie, _, _, best = figures(rows, cost)
    return sosie / best


def figures(rows: Sequence[Drawn], cost: dict[bool, float]) -> tuple[float, float, float, float]:
    """Seconds a kept image and share of prompts with one by Sosie; the N that gives as many, and its seconds.

    Of the draws of a prompt N are taken in every way there is: the share in which one passes (hypergeometric). N is
    infinite where not even all draws give as many.
    """
    kept = sum(row.kept for row in rows)
    if not kept:
        return np.inf, 0.0, np.inf, np.inf
    sosie = sum(row.whole * cost[False] + row.mended * cost[True] for row in rows) / kept
    share = kept / len(rows)
    most = max(len(row.passed) for row in rows)
    enough = [n for n in range(1, most + 1) if np.mean([has_one(row.passed, n) for row in rows]) >= share - 1e-9]
    n = float(enough[0]) if enough else np.inf
    return sosie, share, n, n * cost[False] / share


def has_one(passed: Sequence[bool], n: int) -> float:
    """The share of the ways to take `n` of these draws in which at least one passed."""
    drawn, failed = len(passed), len(passed) - sum(passed)
    return 1 - math.comb(failed, n) / math.comb(drawn, n) if n <= drawn else float(any(passed))


if __name__ == "__main__":
    main()
