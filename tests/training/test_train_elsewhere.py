"""A training on another machine: it needs no line, and what it says and makes comes here once, whatever breaks."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from far_machine import FarMachine, far_machine
from places import ROOT
from seen_once import look_once

from sosie.api.training import Trained, train
from sosie.api.trainings import home
from sosie.api.trainings.journal import FILE, Journal, read_event
from sosie.core import Finding, Note
from sosie.core.errors import EngineError, LostError
from sosie.loop.training_job import TrainOrder
from sosie.machines.ssh import command as command_module
from sosie.machines.ssh import steady
from sosie.pods.lease import LeaseTerms
from sosie.pods.offer import Wanted
from sosie.pods.pod import Pod, save_pod
from sosie.pods.providers import vast as vast_module
from sosie.pods.providers.client import Client
from sosie.pods.providers.fake_vast import KEY, FakeVast
from sosie.pods.switch import new_label
from sosie.store.training import TrainingRecords
from sosie.training.events import Ended, RolledBack, Sample, Sampled, Scores, Stepped
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
ENGINE = f"ssh:root@far:40022?python={sys.executable}"

STUB = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from sosie.api.trainings.journal import Journal
from sosie.core import Finding, Note
from sosie.core.errors import EngineError
from sosie.training.events import Ended, Judged, Sample, Sampled, Scores, Likeness, Stepped
folder = Path(sys.argv[1])
runs = folder / "runs"
count = len(runs.read_text()) if runs.exists() else 0
runs.write_text("x" * (count + 1))
assert (folder / "order.json").is_file()
assert len(list((folder / "characters/mira/dataset").glob("*.jpg"))) == 8
journal = Journal(folder / "journal")
fate = {fate!r}
journal.write(Note("begun"))
for n in (7, 8):
    what = f"{n} images; a character is learned from 9 to 25 or more"
    journal.write(Finding("SOS-T003", "warning", "/there", what))
for step in range(1 if not count else 2, 5):
    journal.write(Stepped(step, 4, 1 / step, 0.5, 1e-4, ("a.png",), 0.25, 0.0))
    if step == 3 and fate == "killed" and count < 1 or fate == "always killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if step == 3 and fate == "error":
        journal.fail(EngineError("the card fell off the bus", "look at it"))
        sys.exit(0)
    while fate == "waits" and step == 2 and not (folder / "go").exists():
        pass
scores = Scores((Likeness("sface", 0.7),), 0.1, None, 1.0)
journal.write(Sampled(4, (Sample(Image.new("RGB", (8, 8), "red"), "x", 1),), scores))
file = folder / "lora.safetensors"
file.write_bytes(b"trained there")
journal.write(Ended("finished", 4, file, ("m1ra",), 4, scores, (Judged(4, scores),)))
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    look_once(monkeypatch)
    monkeypatch.setattr(home, "GLANCE", 0.05)
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    blocks = 100 * 10**6
    machine.program("df", f"echo F 1 U A C M on; echo x {blocks} 0 {blocks} 0% /")
    yield machine
    for pid in processes(machine):
        os.kill(pid, signal.SIGKILL)
    command_module._is_strict.cache_clear()


def processes(machine: FarMachine) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"{machine.home}/.sosie-machine/trainings".encode() in (
                entry / "cmdline"
            ).read_bytes().replace(b"\0", b" "):
                found.append(int(entry.name))
    return found


@pytest.fixture
def ready(workspace: Path) -> Path:
    """A workspace with a model of a few bytes, and a recipe that trains on it."""
    text = (ROOT / "recipes" / "mini.toml").read_text().replace('name = "mini"', 'name = "tiny"', 1)
    start = text.index("[training]")
    training = '[training]\nsteps = 4\nrank = 4\nresolution = 256\nprompts = ["smiling"]\n\n'
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes" / "tiny.toml").write_text(text[:start] + training + text[text.index("[acceptance]") :])
    return workspace


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a process without a model into the place of the trainer there; its fate is told."""

    def put(fate: str) -> None:
        file = tmp_path / "stub.py"
        file.write_text(STUB.replace("{fate!r}", repr(fate)))
        monkeypatch.setattr(home, "TRAIN", f'exec "$python" -P {file} "$1"')

    # The models of `mini` are not needed, and not brought.
    monkeypatch.setattr(home, "_assets", lambda *_: {})
    return put


def order(root: Path, engine: str = ENGINE) -> TrainOrder:
    workspace = open_workspace(root)
    return TrainOrder((load_character(workspace, "mira"),), load_recipe(workspace, "tiny"), add=False, engine=engine)


def events(root: Path, engine: str = ENGINE) -> list[Any]:
    with Session(open_workspace(root)) as session:
        return list(train(session, order(root, engine)))


def on_record(root: Path) -> tuple[Any, list[Any], list[Any]]:
    with TrainingRecords(root / ".sosie") as records:
        run = records.runs()[0]
        return run, list(records.losses(run.id)), list(records.judgements(run.id))


def check_whole(root: Path, done: Trained) -> None:
    """The run is on record as if it had been made here, each step once."""
    run, losses, judgements = on_record(root)
    assert [loss.step for loss in losses] == [1, 2, 3, 4]
    assert [step for step, _ in judgements] == [4]
    assert (run.end.cause, run.end.best, run.end.path) == ("finished", 4, done.record.end.path)
    assert run.end.path.parent == root / "outputs" / "mira"
    assert run.end.path.read_bytes() == b"trained there"
    assert [path.name for path in (run.start.folder / "samples").iterdir()] == ["step-0000004-00.png"]
    assert done.report.is_file()


def runs_there(machine: FarMachine) -> int:
    (file,) = (machine.home / ".sosie-machine" / "trainings").glob("*/runs")
    return len(file.read_text())


def test_curve_samples_and_file_come_home_through_a_line_that_breaks(
    far: FarMachine, ready: Path, stub: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub("waits")
    looks: list[float] = []

    def glance(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            far.behave(says="ssh: connect to host far port 40022: Connection refused")
        time.sleep(seconds)

    def mend(seconds: float) -> None:
        far.behave()
        (folder,) = (far.home / ".sosie-machine" / "trainings").iterdir()
        (folder / "go").touch()

    monkeypatch.setattr(home, "time", SimpleNamespace(sleep=glance))
    monkeypatch.setattr(steady, "time", SimpleNamespace(sleep=mend, monotonic=time.monotonic))
    told = events(ready)
    assert len(looks) >= 2
    check_whole(ready, told[-1])
    said = [event.message for event in told if isinstance(event, Finding) and event.code == "SOS-T003"]
    assert sorted(text[:8] for text in said) == ["7 images", "8 images"]  # what was said of the set here is not again
    assert runs_there(far) == 1
    again = events(ready)  # it is on record, and not asked for again
    assert not any(isinstance(event, Stepped) for event in again)


def test_a_process_that_is_killed_goes_on_from_its_last_state(
    far: FarMachine, ready: Path, stub: Callable[[str], None]
) -> None:
    stub("killed")
    told = events(ready)
    assert [event.step for event in told if isinstance(event, RolledBack)] == [1]
    assert any(isinstance(event, Note) and "was killed" in event.text for event in told)
    check_whole(ready, told[-1])


def test_one_that_is_killed_again_and_again_is_lost_and_so_on_record(
    far: FarMachine, ready: Path, stub: Callable[[str], None]
) -> None:
    stub("always killed")
    with pytest.raises(LostError, match="ended without a result"):
        events(ready)
    assert runs_there(far) == home.DEATHS
    assert on_record(ready)[0].end.cause == "error"


def test_an_error_there_is_the_error_here(far: FarMachine, ready: Path, stub: Callable[[str], None]) -> None:
    stub("error")
    with pytest.raises(EngineError, match="fell off the bus"):
        events(ready)
    run, losses, _ = on_record(ready)
    assert (run.end.cause, [loss.step for loss in losses]) == ("error", [1, 2, 3])


def test_a_command_that_was_ended_is_taken_up_by_the_same_command(
    far: FarMachine, ready: Path, stub: Callable[[str], None]
) -> None:
    stub("waits")
    with Session(open_workspace(ready)) as session, closing(train(session, order(ready))) as running:
        assert next(event.step for event in running if isinstance(event, Stepped)) == 1
    assert on_record(ready)[0].end.cause == "interrupted"
    (folder,) = (far.home / ".sosie-machine" / "trainings").iterdir()
    (folder / "go").touch()
    told = events(ready)
    check_whole(ready, told[-1])
    assert runs_there(far) == 1


def test_a_pod_trains_and_ends_when_the_file_is_here(
    sosie: Sosie, far: FarMachine, ready: Path, stub: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub("finished")
    with FakeVast() as fake:
        monkeypatch.setattr(vast_module.PROVIDER, "_given", Client("vast", fake.url, KEY))
        deadline = datetime.now(UTC) + timedelta(hours=1)
        label = new_label("elena", deadline)
        offer = vast_module.PROVIDER.search(Wanted())[0]
        lease = vast_module.PROVIDER.rent(offer, label, LeaseTerms(10**10, deadline, 9.0))
        pod = Pod("elena", "vast", label, offer.id, offer.gpu, offer.price, 10**10, deadline.isoformat(), "2026-01-01")
        save_pod(open_workspace(ready), replace(pod, lease=lease.id, address="root@far:40022"))
        at = ("--recipe", "tiny", "--no-add", "--workspace", ready)
        monkeypatch.setattr("sosie.api.training.MEASURED", 1)
        done = sosie("train", "mira", *at, "--engine", f"pod:elena?python={sys.executable}", "--down")
        assert (done.code, fake.instances) == (0, {}), done.err
        assert f" to pay at {offer.price:g} an hour" in done.err
        assert "it bills no more" in done.err
        assert Path(done.out.strip()).read_bytes() == b"trained there"
        for wrong in (("--down",), ("--engine", "diffusers"), ("--engine", "ssh:a,b"), ("--engine", ENGINE, "--each")):
            assert sosie("train", "mira", "--recipe", "tiny", "--workspace", ready, *wrong).code == 2


def test_a_journal_is_read_as_it_was_written_whoever_cut_it(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (4, 4), "red")
    finding = Finding("SOS-U010", "error", "loss", "nan")
    scores = Scores((), None, 0.5, None)
    wanted = [
        Note("x"),
        finding,
        Stepped(1, 2, 1.5, 0.5, 1e-4, ("a",), 0.1, 0.2),
        Ended("loss", 1, None, ("m1ra",), None, scores, (), (finding,)),
    ]
    for part in (wanted[:2], wanted[2:]):
        with closing(Journal(tmp_path)) as journal:
            for event in part:
                journal.write(event)
            journal._file.write('{"event": "Note", "te')  # killed here
    with closing(Journal(tmp_path)) as journal:
        journal.write(Sampled(1, (Sample(picture, "p", 3),), scores))
        journal.write(Stepped(2, 2, math.nan, math.inf, 1e-4, (), 0.1, 0.0))
        journal.fail(EngineError("gone", "look"))
    lines = (tmp_path / FILE).read_bytes().split(b"\n")
    *found, sampled, broken = [event for line in lines[:-2] if (event := read_event(line, lambda _: picture))]
    assert found == wanted
    assert isinstance(broken, Stepped)
    assert math.isnan(broken.loss)
    assert isinstance(sampled, Sampled)
    assert (sampled.samples[0].prompt, sampled.scores) == ("p", scores)
    with pytest.raises(EngineError, match="gone"):
        read_event(lines[-2], lambda _: picture)


@pytest.mark.local
def test_the_real_trainer_trains_mini_on_a_machine_by_ssh(
    far: FarMachine, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ready / "recipes" / "tiny.toml"
    recipe.write_text(recipe.read_text().replace("steps = 4", "steps = 1", 1).replace("steps = 20 ", "steps = 1 ", 1))
    told = events(ready)
    done = told[-1]
    assert isinstance(done, Trained)
    assert done.record.end.cause == "finished"
    assert done.record.end.path is not None
    assert done.record.end.path.stat().st_size > 10_000
    assert any(isinstance(event, Sampled) and event.scores for event in told)
