"""`experiment run --engine ssh:`: every cell is drawn on that machine, through lines that break, and judged here."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from far_machine import FarMachine, far_machine
from seen_once import look_once

from sosie.core import Plan
from sosie.engines.far import engine as far_engine
from sosie.engines.far.engine import FarEngine
from sosie.engines.far.site import Site, read_site
from sosie.machines.ssh import command as command_module
from sosie.workspace.bill import Resolved

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
TEXT = """
name = "cfg"
question = "Does a higher cfg matter?"
character = "mira"
recipe = "mini"
prompts = ["smiling", "sad"]
seeds = [1, 2]
[axes]
stages.generate.sampler.cfg = [3.0, 4.0]
[design]
margin = 0.2
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    look_once(monkeypatch)
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    machine.program("df", "echo F 1 U A C M on; echo x 100000000 0 100000000 0% /")
    yield machine
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ProcessLookupError):
            if entry.name.isdigit() and f"{machine.home}/.sosie-machine".encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
    command_module._is_strict.cache_clear()


def test_all_cells_are_drawn_there_once_although_the_line_breaks(
    sosie: Sosie, workspace: Path, far: FarMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def site(text: str) -> Site:  # there the engine `fake` draws: no weights are brought
        return replace(read_site(text), engine="fake")

    drawn: list[str] = []
    note = FarEngine._note

    def cut(self: FarEngine, plan: Plan) -> None:
        note(self, plan)
        drawn.append(plan.id)
        if len(drawn) in (2, 5):
            os.kill(next(call["pid"] for call in reversed(far.calls) if "attendant" in str(call["command"])), 9)

    monkeypatch.setattr(far_engine, "read_site", site)
    monkeypatch.setattr(FarEngine, "_note", cut)
    monkeypatch.setattr(FarEngine, "_assets", lambda *_: [])
    monkeypatch.setattr(Resolved, "sha256", "0" * 64)
    path = tmp_path / "cfg.toml"
    path.write_text(TEXT)
    at = ("--engine", f"ssh:root@far:40022?python={sys.executable}", "--workspace", workspace)
    done = sosie("experiment", "run", path, *at, "--json")
    assert done.code in (0, 1), done.err
    assert len(drawn) == len(set(drawn)) == 8
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert lines
    again = sosie("experiment", "run", path, *at, "--json")
    assert (again.code, len(drawn)) == (done.code, 8)  # the store has them
