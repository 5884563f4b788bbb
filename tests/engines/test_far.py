"""A machine by ssh draws what is planned here: the same pictures, through broken lines, and nothing twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from far_machine import SMI, FarMachine, far_machine
from loopback_sshd import loopback_sshd
from PIL import Image
from processes import runs, until

from sosie.core import Draw, Plan, Recipe, Render, Request, Stage, plan
from sosie.core.errors import EngineError, LostError, UsageError
from sosie.engines.fake import FakeEngine
from sosie.engines.far.engine import FarEngine
from sosie.engines.far.frames import Frames, packed
from sosie.engines.far.site import Site, read_site
from sosie.engines.far.spool import Spool, read_render, render_frame
from sosie.engines.scheme import Supplies
from sosie.files.digest import asset_digest
from sosie.machines.ssh import Host
from sosie.machines.ssh import command as command_module
from sosie.machines.ssh.steady import Patience
from sosie.workspace.characters import load_character
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

FAR = Host("far", "root", 40022)
QUICK = Patience(stall=60.0, lost=120.0, first=0.05, longest=0.3)
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    yield machine
    for pid in worker_pids(machine):
        os.kill(pid, signal.SIGKILL)
    command_module._is_strict.cache_clear()


@pytest.fixture
def workspace(tmp_path: Path, references: list[Path]) -> Path:
    """A workspace with the character `mira` of two references, whose faces nobody looks at."""
    folder = tmp_path / "workspace" / "characters" / "mira"
    (folder / "references").mkdir(parents=True)
    for reference in references[:2]:
        shutil.copy(reference, folder / "references")
    (folder / "character.toml").write_text('name = "mira"\nlikeness = "fictional"\nadult = true\n')
    return tmp_path / "workspace"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "m.safetensors"
    file.write_bytes(os.urandom(50_000))
    return file


Make = Callable[..., FarEngine]


@pytest.fixture
def make(workspace: Path, model: Path) -> Iterator[Make]:
    """Engines whose machine draws with the engine `fake`, which needs no weights."""
    made: list[FarEngine] = []

    def one(**changes: Any) -> FarEngine:
        faces: Any = None
        supplies = Supplies({"m": model}, faces, lambda _: Image.new("RGB", (64, 64), "red"), root=workspace)
        site = Site(FAR, sys.executable, QUICK, "fake")
        made.append(FarEngine(replace(site, **changes), supplies))
        return made[-1]

    yield one
    for engine in made:
        engine.close()


def plans(workspace: Path, model: Path, n: int, side: int = 64) -> list[Plan]:
    who = load_character(open_workspace(workspace), "mira")
    recipe, request = replace(RECIPE, width=side, height=side), Request("r", "mira", "smiling")
    return [plan(recipe, who, request, Draw(i), {"m": asset_digest(model)}) for i in range(n)]


def long_work(workspace: Path, model: Path) -> list[Plan]:
    """Plans that take a while, so that a line can break before the last of them is drawn."""
    return plans(workspace, model, 16, 1024)


def root(machine: FarMachine) -> Path:
    return machine.home / ".sosie-machine"


def worker_pids(machine: FarMachine) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"spool_worker" in words and str(machine.home).encode() in words:
                found.append(int(entry.name))
    return found


def ssh_pid(machine: FarMachine, word: str = "attendant") -> int:
    return next(call["pid"] for call in reversed(machine.calls) if word in str(call["command"]))


def cut(machine: FarMachine) -> None:
    """Breaks the line to the attendant: ssh ends, and with it all that it started there but the worker."""
    pid = ssh_pid(machine)
    for one in (pid, *set(children(pid)) - set(worker_pids(machine))):
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


def renders(engine: FarEngine, wanted: list[Plan]) -> list[Render]:
    return [event for event in engine.run(wanted) if isinstance(event, Render)]


def test_a_machine_draws_what_this_one_would(far: FarMachine, make: Make, workspace: Path, model: Path) -> None:
    engine, wanted = make(), plans(workspace, model, 3)
    assert [finding for finding in engine.check(wanted[0]) if finding.severity == "error"] == []
    found = renders(engine, wanted)
    with Session(open_workspace(workspace)) as session:
        here = FakeEngine(session.reference_paths(wanted[0].character))
        same = [event for event in here.run(wanted) if isinstance(event, Render)]
    assert [one.plan for one in found] == wanted
    assert [one.image.tobytes() for one in found] == [one.image.tobytes() for one in same]
    assert {one.engine for one in found} == {"fake"}
    (asset,) = (root(far) / "assets").glob("*/m.safetensors")
    assert asset.read_bytes() == model.read_bytes()


def test_what_is_there_is_not_brought_again(far: FarMachine, make: Make, workspace: Path, model: Path) -> None:
    renders(make(), plans(workspace, model, 1))
    before = len(far.calls)
    again = plans(workspace, model, 2)[1:]
    assert len(renders(make(), again)) == 1
    assert not any("dd of=" in str(call["command"]) for call in far.calls[before:])
    assert len(worker_pids(far)) == 1


def test_a_line_that_breaks_again_and_again_changes_nothing(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    engine, wanted = make(), plans(workspace, model, 6)
    found: list[Render] = []
    for event in engine.run(iter(wanted)):
        if isinstance(event, Render):
            found.append(event)
            cut(far)
    assert [one.plan for one in found] == wanted
    assert engine._link is not None
    assert engine._link.breaks >= 2
    assert len(worker_pids(far)) == 1


def test_a_line_that_only_hangs_is_taken_for_dead(far: FarMachine, make: Make, workspace: Path, model: Path) -> None:
    engine, wanted = make(patience=replace(QUICK, stall=10.0)), long_work(workspace, model)
    events = engine.run(wanted)
    found = [next(event for event in events if isinstance(event, Render))]
    stopped = ssh_pid(far)
    held = [stopped, *(pid for pid in children(stopped) if pid not in worker_pids(far))]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    found += [event for event in events if isinstance(event, Render)]
    assert [one.plan for one in found] == wanted
    assert until(lambda: not runs(stopped))
    for pid in held:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for one in (task / "children").read_text().split():
                found += [int(one), *children(int(one))]
    return found


def test_a_machine_that_stays_away_is_lost_and_says_what_to_do(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    engine = make(patience=replace(QUICK, lost=0.5))
    wanted = long_work(workspace, model)
    events = engine.run(wanted)
    assert next(event for event in events if isinstance(event, Render)).plan == wanted[0]
    far.behave(says="ssh: connect to host far port 40022: Connection refused")
    cut(far)
    with pytest.raises(LostError, match="Connection refused") as lost:
        list(events)
    assert "same command" in lost.value.hint


def test_what_was_drawn_while_nobody_was_there_is_taken_up(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    wanted = plans(workspace, model, 2)
    events = make().run(wanted)
    next(event for event in events if isinstance(event, Render))
    (spool,) = (root(far) / "spools").iterdir()
    assert until((spool / "drawn" / wanted[1].id).exists)
    cut(far)  # as if this machine had been switched off
    for pid in worker_pids(far):
        os.kill(pid, signal.SIGKILL)
    (second,) = renders(make(), wanted[1:])
    assert second.plan == wanted[1]
    assert worker_pids(far) == []


def test_a_worker_that_is_killed_loses_one_image_at_most(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    engine, wanted = make(), plans(workspace, model, 4)
    found: list[Render] = []
    for event in engine.run(wanted):
        if isinstance(event, Render):
            found.append(event)
            for pid in worker_pids(far):
                os.kill(pid, signal.SIGKILL)
    assert [one.plan for one in found] == wanted


def test_an_error_of_the_engine_there_is_told_and_the_next_plan_is_drawn(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    engine = make(engine="fakes")
    with pytest.raises(LostError, match=r"its worker ended 3 times.*engine 'fakes' is not known"):
        renders(engine, plans(workspace, model, 1))
    (one,) = plans(workspace, model, 1)
    with pytest.raises(EngineError, match=r"division|modulo"):
        renders(make(), [replace(one, character=replace(one.character, references=()))])
    assert len(renders(make(), plans(workspace, model, 1))) == 1


def test_an_image_to_work_on_goes_along(far: FarMachine, make: Make, workspace: Path, model: Path) -> None:
    (one,) = plans(workspace, model, 1)
    (found,) = renders(make(), [replace(one, source="a" * 64)])
    assert found.image.size == (64, 64)
    assert root(far).is_dir()


def test_a_disk_without_room_is_found_before_anything_is_brought(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    far.program("df", "echo Filesystem 1024-blocks Used Available Capacity Mounted on; echo x 100 40 60 40% /")
    (finding,) = [one for one in make().check(plans(workspace, model, 1)[0]) if one.severity == "error"]
    assert finding.code == "SOS-H043"
    assert "temporary files counted" in finding.message
    assert not root(far).exists()
    made = make(python="")
    (finding,) = [one for one in made.check(plans(workspace, model, 1)[0]) if one.severity == "error"]
    assert "needs 9.8 GB" in finding.message


def test_a_card_that_torch_cannot_use_ends_it_before_a_model_is_brought(
    far: FarMachine, make: Make, workspace: Path, model: Path
) -> None:
    far.program("nvidia-smi", f"cat <<'EOF'\n{SMI}\nEOF")
    engine = make()
    with pytest.raises(LostError, match="has a card that torch cannot use"):
        renders(engine, plans(workspace, model, 1))
    assert not (root(far) / "assets").exists()


def test_no_token_of_this_machine_reaches_the_other(
    far: FarMachine, make: Make, workspace: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "CIVITAI_TOKEN", "VAST_API_KEY", "RUNPOD_API_KEY"):
        monkeypatch.setenv(name, "s3cret-of-mine")
    renders(make(), plans(workspace, model, 1))
    assert "s3cret-of-mine" not in json.dumps(far.calls)
    for path in far.home.rglob("*"):
        if path.is_file() and "calls.jsonl" not in path.name:
            assert b"s3cret-of-mine" not in path.read_bytes(), path
    for pid in worker_pids(far):
        assert b"s3cret-of-mine" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=id", "root:pw@far", "far?python=x", "far?python=/a b", "far?x=/a", "far/folder"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_site(text)


def test_an_address_names_a_machine_and_its_python() -> None:
    assert read_site("root@far:40022?python=/opt/x/bin/python") == Site(FAR, "/opt/x/bin/python")
    assert read_site("//root@far:40022") == Site(FAR)


def test_all_of_it_works_with_a_real_sshd(make: Make, workspace: Path, model: Path, tmp_path: Path) -> None:
    with loopback_sshd(tmp_path / "sshd") as sshd:
        host, wanted = sshd.host, long_work(workspace, model)
        found: list[Render] = []
        engine = make(host=host)
        assert "SOS-X005" in [one.code for one in engine.check(wanted[0])]
        for event in engine.run(wanted):
            if isinstance(event, Render):
                found.append(event)
                if len(found) == 1:
                    assert sshd.drop_lines()
        assert [one.plan for one in found] == wanted
        assert engine._link is not None
        assert engine._link.breaks >= 1
        engine.close()
        pids = worker_pids(FarMachine(sshd.home))
        assert len(pids) == 1
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert host.known_hosts is not None
        assert "ssh-ed25519" in host.known_hosts.read_text()


def test_a_message_that_is_cut_or_too_large_is_no_message() -> None:
    whole = packed({"say": "x"}, b"12345")

    def frames(data: bytes) -> Frames:
        pieces = [data[i : i + 3] for i in range(0, len(data), 3)]
        return Frames(lambda _: pieces.pop(0) if pieces else b"")

    both = frames(whole + whole)
    assert [both.next(), both.next(), both.next()] == [({"say": "x", "bytes": 5}, b"12345")] * 2 + [None]
    for bad in (whole[:-1], whole[:5], b"[]\n", b"{}\n", b'{"bytes":-1}\n', b'{"bytes":99999999999}\n', b"x\n"):
        with pytest.raises(OSError, match="message"):
            frames(bad).next()


def test_a_render_comes_whole_or_not_at_all(workspace: Path, model: Path) -> None:
    one = plans(workspace, model, 1)[0]
    with Session(open_workspace(workspace)) as session:
        engine = FakeEngine(session.reference_paths(one.character))
        render = next(event for event in engine.run([one]) if isinstance(event, Render))
    table, data = render_frame(render)
    assert read_render(json.loads(json.dumps(table)), data, one).image.tobytes() == render.image.tobytes()
    for wrong in (data[:-9], b"", b"x" * 99):
        with pytest.raises(OSError, match="image"):
            read_render(table, wrong, one)
    with pytest.raises(OSError, match="announced"):
        read_render({**table, "size": [10**6, 10**6]}, data, one)


def test_names_that_are_no_ids_never_become_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in ("../x", "a" * 63, "A" * 64, ""):
        for act in (lambda n: spool.ask(n, {}), spool.forget, spool.drop, spool.result):
            with pytest.raises(EngineError):
                act(name)
