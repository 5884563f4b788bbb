"""What an image takes more by the worker of a machine by ssh than in this process: processor time, on the same cores.

    python benchmarks/far_overhead.py --images 8

The machine is this one, behind a stand-in for ssh that runs commands here: what is measured is our own work (spool,
attendant, frames, deflated pixels), not a network. The first image of each run, which loads the model, is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from far_machine import far_machine

from sosie.api.characters import new_character
from sosie.api.engines import open_engine
from sosie.core import Draw, Plan, Render, Request, plan
from sosie.core.plan import needed_stages
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.characters import CharacterFile, load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--recipe", default="mini")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        machine = far_machine(Path(place), lambda path: os.environ.__setitem__("PATH", path))
        (Path(place) / "workspace").mkdir()
        workspace = open_workspace(Path(place) / "workspace")
        with Session(workspace) as session:
            pictures = sorted((ROOT / "examples").rglob("*.jpg"))[:12]
            new_character(session, CharacterFile("mira", "fictional", True, "a young woman"), pictures)
            who, recipe = load_character(workspace, "mira"), load_recipe(workspace, asked.recipe)
            request = Request(recipe.name, "mira", "smiling")
            bill = resolve(workspace, needed_stages(recipe, who, request), who)
            plans = [plan(recipe, who, request, Draw(index), bill.digests) for index in range(2 * asked.images)]
            there = f"ssh:root@far:40022?python={sys.executable}"
            for half in (plans[: asked.images], plans[asked.images :]):
                for name, address in (("here", "diffusers"), ("there", there)):
                    print(f"{name:6} {seconds(session, address, bill, half, machine.home):.2f} s an image", flush=True)
        end_workers(machine.home)


def end_workers(home: Path) -> None:
    """The worker there would wait a quarter of an hour for more."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{home}/.sosie-machine".encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)


def seconds(session: Session, address: str, bill: Bill, plans: Sequence[Plan], home: Path) -> float:
    """The mean of all images but the first: processor seconds of this process, and of all that works there."""
    ends: list[float] = []
    character = plans[0].character
    with closing(open_engine(session, address, bill, character)) as engine:
        ends += [worked(home) for event in engine.run(iter(plans)) if isinstance(event, Render)]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def worked(home: Path) -> float:
    """Processor seconds so far. What ended in between is not counted: it is little."""
    there = 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(home).encode() in (entry / "cmdline").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                there += int(fields[11]) + int(fields[12])
    return time.process_time() + there / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
