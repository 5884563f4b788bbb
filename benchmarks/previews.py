"""What previews cost: the same images with and without, in one process, turn by turn.

    python benchmarks/previews.py IMAGES... [--recipe mini] [--rounds 4] [--keep FOLDER]

IMAGES are of the character that is drawn. Pixels must be the same either way; previews are written to FOLDER.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from sosie.api.characters import new_character
from sosie.api.engines import make_engine
from sosie.core import Draw, Preview, Render, Request, plan
from sosie.core.plan import needed_stages
from sosie.workspace.bill import resolve
from sosie.workspace.characters import CharacterFile, load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

DESCRIPTION = "a young woman, light skin, braided auburn hair, brown eyes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Session(open_workspace(Path(folder))) as session:
        details = CharacterFile("mira", "fictional", True, DESCRIPTION, "", ())
        new_character(session, details, asked.images)
        recipe = load_recipe(session.workspace, asked.recipe)
        bill = resolve(session.workspace, needed_stages(recipe))
        watched = [False]
        engine = make_engine(session, "diffusers", bill.paths, watched=lambda: watched[0])
        character = load_character(session.workspace, "mira")
        request = Request(recipe.name, "mira", "smiling, soft daylight")
        made = plan(recipe, character, request, Draw(), bill.digests)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        previews: list[Preview] = []
        for number in range(-1, asked.rounds):  # the first loads the model
            one = replace(made, seed=number + 1)
            pictures: dict[bool, Render] = {}
            for watch in (False, True) if number % 2 else (True, False):
                watched[0] = watch
                started = time.perf_counter()
                for event in engine.run([one]):
                    if isinstance(event, Preview):
                        previews.append(event)
                    elif isinstance(event, Render):
                        pictures[watch] = event
                if number >= 0:
                    seconds[watch].append(time.perf_counter() - started)
            same = np.array_equal(np.asarray(pictures[True].image), np.asarray(pictures[False].image))
            if not same:
                raise SystemExit(f"seed {one.seed}: the pixels differ")
        engine.close()
    report(seconds, previews, asked.rounds + 1)
    if asked.keep is not None:
        asked.keep.mkdir(parents=True, exist_ok=True)
        for number, preview in enumerate(previews):
            (asked.keep / f"{number:02}-{preview.done:g}-of-{preview.total:g}.jpg").write_bytes(preview.data)


def report(seconds: dict[bool, list[float]], previews: list[Preview], images: int) -> None:
    """One line: medians, the median of the ratios of a pair, how many previews, and their size."""
    ratios = [with_ / without for with_, without in zip(seconds[True], seconds[False], strict=True)]
    print(
        f"without {statistics.median(seconds[False]):.2f} s, with {statistics.median(seconds[True]):.2f} s, "
        f"{100 * (statistics.median(ratios) - 1):+.1f} % (median of {len(ratios)} pairs); "
        f"{len(previews) / images:.1f} previews an image, {statistics.mean(len(p.data) for p in previews):.0f} bytes; "
        "pixels are the same"
    )


if __name__ == "__main__":
    main()
