"""Seconds per kept image on `mini`: how long the main job takes, and where the time goes.

python benchmarks/kept.py IMAGES... [-n 8]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from sosie.api.characters import new_character
from sosie.api.generation import Delivered, Order, generate
from sosie.workspace.characters import CharacterFile
from sosie.workspace.prompts import PromptLine
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

DESCRIPTION = "a young woman, light skin, braided auburn hair, brown eyes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=8)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    with Session(open_workspace(root)) as session:
        made = new_character(session, CharacterFile("mira", "fictional", True, DESCRIPTION), options.images)
        recipe = load_recipe(session.workspace, "mini")
        ready = time.perf_counter()
        prompts = (PromptLine("smiling, soft daylight, forest background"),)
        order = Order(made.character, recipe, prompts, options.n, 0, root / "out")
        done = [(event, time.perf_counter()) for event in generate(session, order) if isinstance(event, Delivered)]
    total = time.perf_counter() - ready
    first, steady = done[0][1] - ready, np.diff([when for _, when in done])
    kept = sum(item.attempt.verdict.outcome == "keep" for item, _ in done)
    rendering = np.median([item.attempt.stored.seconds for item, _ in done[1:]])
    print("| | seconds |\n| --- | --- |")
    print(f"| check {len(options.images)} references | {ready - start:.1f} |")
    print(f"| first image, with loading everything | {first:.1f} |")
    print(f"| each further attempt, median | {np.median(steady):.2f} |")
    print(f"| of which rendering | {rendering:.2f} |")
    print(f"| a kept image, all in ({kept} kept of {len(done)} attempts) | {total / kept:.2f} |")


if __name__ == "__main__":
    main()
