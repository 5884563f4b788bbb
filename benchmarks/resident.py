"""Seconds from the command to the image, for the second and later prompts: with a resident worker and without.

    python benchmarks/resident.py [--rounds 3] [--recipe mini]

Whole commands as users type them, each with a new seed and one attempt, turn by turn; judging, signing and the report
are in both. A first command of each kind is not counted: it fills caches, and starts the worker.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
MINUTES = 10


def sosie(*arguments: object) -> tuple[float, str]:
    """Seconds and stdout of one command."""
    command = [sys.executable, "-c", "from sosie.cli import main; main()", *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):  # 1: the image did not pass
        sys.exit(done.stderr)
    return time.perf_counter() - start, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", default="mini")
    given = parser.parse_args()
    kinds: dict[str, tuple[object, ...]] = {"without": (), "with": ("--keep-loaded", MINUTES)}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    renders: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOSIE_WORKSPACE"] = folder
        references = sorted((ROOT / "examples" / "mira").glob("*.jpg"))
        sosie("new", "mira", *references, "--description", "a young woman", "--likeness", "fictional", "--adult")
        try:
            for turn in range(given.rounds + 1):
                for place, (kind, flags) in enumerate(kinds.items()):
                    seed = 2 * turn + place
                    once = ("-n", 1, "--attempts", 1, "--seed", seed, "--recipe", given.recipe, "--json")
                    seconds, out = sosie("generate", "mira", "smiling", *once, *flags)
                    if turn:
                        times[kind].append(seconds)
                        renders[kind].append(json.loads(out.splitlines()[0])["seconds"])
        finally:
            sosie("worker", "stop")
    print(f"| {given.recipe}, one image | whole command, s: median (least) | the engine's part, s: median (least) |")
    print("| --- | --- | --- |")
    for kind in kinds:
        whole, part = times[kind], renders[kind]
        print(
            f"| {kind} a worker | {np.median(whole):.2f} ({min(whole):.2f}) | {np.median(part):.2f} ({min(part):.2f}) |"
        )
    ratio = np.median(times["without"]) / np.median(times["with"])
    print(f"\n{ratio:.1f} times as fast with a worker; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
