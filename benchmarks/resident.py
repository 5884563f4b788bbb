"""Seconds from the command to its first step and to the image, for later prompts: with a resident worker and without.

    python benchmarks/resident.py [--rounds 3] [--recipe mini] [--cold]

Whole commands as users type them, each with a new seed and one attempt, turn by turn; judging, signing and the report
are in all. A first command of each kind is not counted: it fills caches, and starts the worker. The first step is
when the progress bar on a terminal shows one, which it does ten times a second. Processor seconds are those of the
command and of what it started, the worker's left out. `--cold` adds both kinds with nothing of a file in main memory:
Linux is told to forget its page cache before each command, which it lets nobody but root ask.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pty
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
MINUTES = 10
FORGET = Path("/proc/sys/vm/drop_caches")
STEP = re.compile(rb"step [1-9]")


@dataclass(frozen=True)
class Timed:
    """One command: seconds to the first step that was shown (NaN if none), to its end, of processors; its stdout."""

    first: float
    whole: float
    processor: float
    out: str


def sosie(*arguments: object) -> Timed:
    """Runs one command with a terminal as its stderr."""
    command = [sys.executable, "-c", "from sosie.cli import main; main()", *map(str, arguments)]
    master, slave = pty.openpty()
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(command, stdout=out, stderr=slave, env=os.environ | {"COLUMNS": "200"}) as process,
    ):
        os.close(slave)
        first, shown = watch(master, start)
        code = process.wait()
        whole, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        said = out.read()
    if code not in (0, 1) or (code and not said):  # 1 with an image on stdout: it did not pass
        sys.exit(shown)
    return Timed(first, whole, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said)


def watch(master: int, start: float) -> tuple[float, str]:
    """Seconds from `start` until a step is shown, and all that was shown until the terminal closed."""
    first, shown = math.nan, b""
    while True:
        try:
            more = os.read(master, 1 << 16)
        except OSError:  # Linux says so when the last writer has closed
            more = b""
        if not more:
            os.close(master)
            return first, shown.decode(errors="replace")
        shown += more
        if math.isnan(first) and STEP.search(shown):
            first = time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    if given.cold and not os.access(FORGET, os.W_OK):
        sys.exit(f"--cold empties the page cache by {FORGET}, which is for root on Linux")
    kinds: dict[str, tuple[object, ...]] = {"without": (), "with": ("--keep-loaded", MINUTES)}
    kinds |= {f"cold, {kind}": flags for kind, flags in kinds.items() if given.cold}
    times: dict[str, list[Timed]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SOSIE_WORKSPACE"] = folder
        references = sorted((ROOT / "examples" / "mira").glob("*.jpg"))
        sosie("new", "mira", *references, "--description", "a young woman", "--likeness", "fictional", "--adult")
        try:
            for turn in range(given.rounds + 1):
                for place, (kind, flags) in enumerate(kinds.items()):
                    seed = len(kinds) * turn + place
                    once = ("-n", 1, "--attempts", 1, "--seed", seed, "--recipe", given.recipe, "--json")
                    if "cold" in kind:
                        os.sync()
                        FORGET.write_text("3")
                    timed = sosie("generate", "mira", "smiling", *once, *flags)
                    if turn:
                        times[kind].append(timed)
        finally:
            sosie("worker", "stop")
    report(given.recipe, times)


def report(recipe: str, times: dict[str, list[Timed]]) -> None:
    """Prints a row a kind, and how much faster the worker is."""
    print(
        f"| {recipe}, one image | to the first step, s: median (least) | to the end | the engine's part | processor |"
    )
    print("| --- | --- | --- | --- | --- |")
    middle: dict[str, list[float]] = {}
    for kind, timed in times.items():
        drawn = [json.loads(one.out.splitlines()[0])["seconds"] for one in timed]
        columns = [[o.first for o in timed], [o.whole for o in timed], drawn, [o.processor for o in timed]]
        middle[kind] = [float(np.median(column)) for column in columns]
        cells = (f"{np.median(column):.2f} ({min(column):.2f})" for column in columns)
        print(f"| {kind} a worker | {' | '.join(cells)} |")
    for cold in ("", "cold, "):
        if f"{cold}with" in middle:
            first, whole = (middle[f"{cold}without"][at] / middle[f"{cold}with"][at] for at in (0, 1))
            print(f"\n{cold}with a worker the first step comes {first:.1f} times as fast, the end {whole:.1f} times")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
