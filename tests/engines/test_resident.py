"""The resident worker: the same images as without it, for this user only, and nothing left behind."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from catalogues import ask
from PIL import Image

from sosie.api import resident as api_resident
from sosie.api.engines import make_engine
from sosie.api.resident import Held, Resident
from sosie.core import (
    Character,
    Draw,
    Environment,
    Finding,
    Plan,
    Progress,
    Recipe,
    Reference,
    Render,
    Request,
    Sampler,
    Stage,
    plan,
)
from sosie.core.errors import BadModelError, EngineError, LostError, UsageError
from sosie.engines import resident
from sosie.engines.resident import ResidentEngine, dismiss, log_file, status
from sosie.engines.resident_protocol import (
    MAX_TEXT,
    Role,
    listen,
    make_folder,
    read_door,
    receive,
    receive_render,
    role_digest,
    send,
    send_render,
    write_door,
)
from sosie.families.contract.draws import Settings
from sosie.store import pixels_digest
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
Events = Iterator[Progress | Render]
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)
ENVIRONMENT = Environment("3", "any", "none", (("torch", "2.0"), ("numpy", "1.0")))
FINDING = Finding("SOS-E021", "error", "mira", "the face is too small: 12 px", "upscale first")
POSIX = pytest.mark.skipif(os.name == "nt", reason="sockets and permissions of POSIX")


def plans(n: int, sha256: str = "a" * 64, character: Character | None = None) -> list[Plan]:
    who = character or Character("mira", "fictional", True)
    return [plan(RECIPE, who, Request("r", who.name, "smiling"), Draw(i), {"m": sha256}) for i in range(n)]


class Scripted:
    """Noise of the plan's seed. `gate` holds a render back; `fault` is raised in place of the second image."""

    name = "scripted-cpu"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.made: list[str] = []
        self.cancelled = 0
        self.at_once = self.most_at_once = 0

    def check(self, plan: Plan) -> list[Finding]:
        return [replace(FINDING, subject=plan.requested.prompt)]

    def run(self, plans: Iterable[Plan]) -> Events:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for index, planned in enumerate(plans):
                yield Progress("load", 0, 1)
                if index == 1 and self.fault is not None:
                    raise self.fault
                for step in range(4):
                    self.gate.wait(10)
                    time.sleep(0.002)
                    yield Progress("generate", step + 1, 4)
                self.made.append(planned.id)
                measures = (("detail.seam", 0.1 + 0.2), ("detail.other", math.pi))
                yield Render(noise(planned), planned, self.name, ENVIRONMENT, 1 / 3, (FINDING,), measures)
        except GeneratorExit:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1

    def close(self) -> None:
        pass


def noise(planned: Plan) -> Image.Image:
    pixels = np.random.default_rng(planned.seed).integers(0, 256, (planned.height, planned.width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class House:
    """A workspace with a worker that runs on a thread of this process."""

    def __init__(self, root: Path, engine: Any, files: dict[str, Path] | None = None) -> None:
        self.workspace = open_workspace(root)
        self.role = Role(str(root), "fake", Settings())
        self.engine = engine
        self.folder = make_folder(self.workspace.state)
        self.listener, address = listen(self.folder)
        self.door = write_door(self.folder, address, role_digest(self.role, self.workspace.config))
        self.there = True
        self.files: dict[str, Path] = {} if files is None else files
        self.worker = Resident(Held("fake", engine, self.files), self.listener, lambda: self.there)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        self.worker.serve(self.door)
        (self.folder / "door.json").unlink(missing_ok=True)
        self.worker.refuse()
        self.listener.close()

    def client(self, minutes: float = 1.0, files: dict[str, Path] | None = None) -> ResidentEngine:
        return ResidentEngine(self.workspace, self.role, files or {}, minutes)

    def close(self) -> None:
        self.engine.gate.set()
        self.there = False
        self.thread.join(10)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A worker with a scripted engine; no process is ever started for it."""
    monkeypatch.setattr(resident, "MODULE", "no.such.module")
    monkeypatch.setattr(api_resident, "GLANCE", 0.02)
    made = House(tmp_path, Scripted())
    yield made
    made.close()


def renders(events: Events) -> list[Render]:
    return [event for event in events if isinstance(event, Render)]


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_everything_that_an_engine_yields_comes_back_as_it_was(house: House) -> None:
    asked = plans(3)
    there = list(house.client().run(asked))
    here = list(Scripted().run(asked))
    assert len(there) == len(here) == 3 * 6
    for one, other in zip(there, here, strict=True):
        if isinstance(one, Progress):
            assert one == other
            continue
        assert isinstance(other, Render)
        assert one.plan is other.plan
        assert pixels_digest(one.image) == pixels_digest(other.image)
        for name in ("engine", "environment", "seconds", "findings", "measures"):
            assert getattr(one, name) == getattr(other, name), name


def test_its_name_and_its_checks_are_those_of_the_engine_that_it_holds(house: House) -> None:
    client = house.client()
    assert client.name == "scripted-cpu"
    assert client.check(plans(1)[0]) == [replace(FINDING, subject="smiling")]


@pytest.mark.parametrize("fault", [EngineError("no room", "close it"), BadModelError("m is cut off", "fetch it")])
def test_an_error_keeps_class_message_and_hint_and_what_was_made_before_it(house: House, fault: Any) -> None:
    house.engine.fault = fault
    client, made = house.client(), []
    with pytest.raises(type(fault)) as caught:
        made += [event for event in client.run(plans(3)) if made.append(event)]
    assert (caught.value.message, caught.value.hint) == (fault.message, fault.hint)
    assert len([event for event in made if isinstance(event, Render)]) == 1
    house.engine.fault = None
    assert len(renders(client.run(plans(2)))) == 2


def test_an_error_that_is_not_one_of_sosies_names_the_log_and_the_worker_lives_on(house: House) -> None:
    house.engine.fault = ZeroDivisionError("by zero")
    client = house.client()
    with pytest.raises(EngineError, match="ZeroDivisionError: by zero") as caught:
        list(client.run(plans(2)))
    assert "worker.log" in caught.value.hint
    house.engine.fault = None
    assert len(renders(client.run(plans(1)))) == 1


def test_a_worker_whose_card_failed_says_so_and_ends(house: House) -> None:
    house.engine.fault = LostError("the card failed", "look at it")
    with pytest.raises(LostError, match="the card failed"):
        list(house.client().run(plans(2)))
    house.thread.join(10)
    assert not house.thread.is_alive()


def test_with_no_minutes_it_stays_for_who_is_connected_and_no_longer(house: House) -> None:
    client = house.client(0)
    assert len(renders(client.run(plans(1)))) == 1
    time.sleep(0.3)
    assert len(renders(client.run(plans(2)))) == 2
    assert house.thread.is_alive()
    client.close()
    house.thread.join(10)
    assert not house.thread.is_alive()


def test_who_stops_reading_stops_the_work_and_the_next_is_served(house: House) -> None:
    client = house.client()
    events = client.run(plans(5))
    assert isinstance(next(events), Progress)
    events.close()
    assert eventually(lambda: house.engine.cancelled == 1)
    assert len(house.engine.made) < 5
    assert [r.plan.id for r in renders(client.run(plans(2)))] == [p.id for p in plans(2)]


def test_two_commands_at_once_are_served_one_after_the_other(house: House) -> None:
    asked = (
        plans(4, character=Character("mira", "fictional", True)),
        plans(4, character=Character("noa", "fictional", True)),
    )
    got: dict[int, list[Render]] = {}

    def work(which: int) -> None:
        got[which] = renders(house.client().run(asked[which]))

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert house.engine.most_at_once == 1
    for which in (0, 1):
        assert [pixels_digest(r.image) for r in got[which]] == [pixels_digest(noise(p)) for p in asked[which]]


def test_more_plans_than_a_call_takes_come_in_order_and_let_others_in_between(house: House) -> None:
    many, one = plans(resident.BATCH + 2), plans(1, character=Character("noa", "fictional", True))
    house.engine.gate.clear()
    first = renders_of(house, many)
    assert eventually(lambda: house.engine.at_once == 1)
    second = renders_of(house, one)
    assert eventually(lambda: (now := status(house.workspace)) is not None and now.waiting == 1)
    house.engine.gate.set()
    assert [render.plan.id for render in first()] == [planned.id for planned in many]
    assert [render.plan.id for render in second()] == [one[0].id]
    assert house.engine.made.index(one[0].id) == resident.BATCH


def renders_of(house: House, asked: list[Plan]) -> Callable[[], list[Render]]:
    found: list[Render] = []
    thread = threading.Thread(target=lambda: found.extend(renders(house.client().run(asked))))
    thread.start()

    def wait() -> list[Render]:
        thread.join(30)
        return found

    return wait


def test_status_says_what_the_worker_does_while_it_works(house: House) -> None:
    house.engine.gate.clear()
    wait = renders_of(house, plans(1))
    assert eventually(lambda: (now := status(house.workspace)) is not None and now.ends_in is None)
    house.engine.gate.set()
    assert len(wait()) == 1
    assert eventually(lambda: (now := status(house.workspace)) is not None and now.ends_in is not None)
    now = status(house.workspace)
    assert now is not None
    assert (now.served, now.waiting, now.engine) == (1, 0, "fake")
    assert 50 < (now.ends_in or 0) <= 60


def test_a_stop_ends_the_work_and_says_so_to_whom_it_was_for(house: House) -> None:
    house.engine.gate.clear()
    told: list[str] = []

    def work() -> None:
        with pytest.raises(EngineError) as caught:
            list(house.client().run(plans(3)))
        told.append(caught.value.message)

    thread = threading.Thread(target=work)
    thread.start()
    assert eventually(lambda: house.engine.at_once == 1)
    found = resident.reach(house.workspace)
    assert found is not None
    send(found[1], {"do": "stop"})
    assert eventually(house.worker.stopping.is_set)
    house.engine.gate.set()
    thread.join(20)
    assert told == ["the worker was stopped while it worked for this command"]
    house.thread.join(10)
    assert not house.thread.is_alive()
    assert house.engine.cancelled == 1


def test_the_time_is_over_after_the_last_call(house: House) -> None:
    assert len(renders(house.client(minutes=0.005).run(plans(1)))) == 1
    house.thread.join(10)
    assert not house.thread.is_alive()
    assert read_door(house.workspace.state) is None


@pytest.mark.parametrize("minutes", [-1.0, math.nan, math.inf, 24 * 60 + 1.0])
def test_minutes_that_are_no_time_are_refused(house: House, minutes: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        house.client(minutes)


def test_who_has_not_the_key_is_not_heard(house: House) -> None:
    with pytest.raises((AuthenticationError, EOFError, OSError)):
        Client(house.door.address, authkey=b"\0" * 32)
    with Client(house.door.address) as unproven:
        unproven.recv_bytes(256)  # the challenge
        unproven.send_bytes(b"let me in")
        assert b"FAILURE" in unproven.recv_bytes(256)
        with pytest.raises(EOFError):
            unproven.recv_bytes(256)
    assert len(renders(house.client().run(plans(1)))) == 1


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def test_a_pickle_a_list_a_wrong_word_and_a_flood_are_not_understood(house: House, tmp_path: Path) -> None:
    bomb = tmp_path / "exploded"
    for message in (
        pickle.dumps(Bomb(bomb)),
        b"[1]",
        b'{"do": "eval"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"do": "status", "more": "' + b"a" * MAX_TEXT + b'"}',
    ):
        with Client(house.door.address, authkey=bytes.fromhex(house.door.key)) as link:
            with contextlib.suppress(OSError):
                link.send_bytes(message)
            with pytest.raises((EOFError, OSError)):
                link.recv_bytes(1000)
    assert not bomb.exists()
    assert len(renders(house.client().run(plans(1)))) == 1


def test_a_message_is_one_json_object_within_the_limit() -> None:
    here, there = Pipe()
    for message in (b"[1]", b"1", b"", b"{", b"[" * 100_000, b"\xff"):
        there.send_bytes(message)
        with pytest.raises(OSError, match="a message is not"):
            receive(here)
    with pytest.raises(EngineError, match="expected at most"):
        send(there, {"do": "a" * MAX_TEXT})


def test_a_request_that_says_too_little_is_answered_with_an_error(house: House) -> None:
    with Client(house.door.address, authkey=bytes.fromhex(house.door.key)) as link:
        send(link, {"do": "run"})
        assert receive(link)["say"] == "error"
    assert len(renders(house.client().run(plans(1)))) == 1


def test_an_image_that_is_not_as_announced_is_no_image(house: House) -> None:
    planned = plans(1)[0]
    whole = Render(noise(planned), planned, "e", ENVIRONMENT, 0.1)
    here, there = Pipe()
    send_render(there, 0, whole)
    facts = receive(here)
    assert pixels_digest(receive_render(here, facts, planned).image) == pixels_digest(whole.image)
    for size in ([64, 65], [0, 64], [2**20, 2**20], [64, -64]):
        send_render(there, 0, whole)
        announced = {**receive(here), "size": size}
        with pytest.raises(OSError, match=r"announced|incomplete"):
            receive_render(here, announced, planned)
        if size != [64, 65]:
            here.recv_bytes()


@POSIX
def test_folder_door_and_socket_are_for_this_user_only(house: House) -> None:
    assert stat.S_IMODE(house.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((house.folder / "door.json").stat().st_mode) == 0o600
    assert house.door.key not in repr(house.door)


@POSIX
def test_a_door_that_others_may_read_is_refused(house: House) -> None:
    (house.folder / "door.json").chmod(0o644)
    with pytest.raises(EngineError, match="others may read it"):
        house.client().check(plans(1)[0])


def test_a_door_of_another_making_is_no_door(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    for text in ("", "[]", '{"address": 1}', "\0" * 10):
        (folder / "door.json").write_text(text)
        (folder / "door.json").chmod(0o600)
        assert read_door(tmp_path) is None


@POSIX
def test_a_workspace_with_a_path_too_long_for_a_socket_has_a_worker_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 60)
    deep.mkdir(parents=True)
    house = House(deep, Scripted())
    address = Path(house.door.address)
    assert house.folder not in address.parents
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    assert len(renders(house.client().run(plans(1)))) == 1
    house.close()
    address.parent.rmdir()


def test_the_role_is_that_of_version_settings_packages_and_device(tmp_path: Path, monkeypatch: Any) -> None:
    config = open_workspace(tmp_path).config
    role = Role(str(tmp_path), "fake", Settings())
    seen = {role_digest(role, config)}
    seen.add(role_digest(replace(role, settings=Settings("sequential")), config))
    seen.add(role_digest(replace(role, engine="diffusers"), config))
    seen.add(role_digest(role, replace(config, models={"m": "elsewhere"})))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seen.add(role_digest(role, config))
    monkeypatch.setattr("sosie.engines.resident_protocol.__version__", "99")
    seen.add(role_digest(role, config))
    assert len(seen) == 6
    before = role_digest(role, config)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert role_digest(role, config) == before


# From here on the worker is a process.


@pytest.fixture
def process_workspace(tmp_path: Path, references: list[Path]) -> Iterator[tuple[Workspace, ResidentEngine, list[Plan]]]:
    """A workspace, a client of the fake engine in a worker process, and plans for it."""
    (tmp_path / "ws").mkdir()
    workspace = open_workspace(tmp_path / "ws")
    files = {f"{index:064d}": path for index, path in enumerate(references[:3])}
    who = Character("mira", "fictional", True, references=tuple(Reference(p.name, sha) for sha, p in files.items()))
    client = ResidentEngine(workspace, Role(str(workspace.root), "fake", Settings()), files, 2.0)
    yield workspace, client, plans(3, character=who)
    client.close()
    with contextlib.suppress(EngineError):
        dismiss(workspace)


Made = tuple[Workspace, ResidentEngine, list[Plan]]


def pid_of(workspace: Workspace) -> int:
    found = status(workspace)
    assert found is not None, log_file(workspace).read_text()
    return found.pid


def is_running(pid: int) -> bool:
    """Whether the process lives; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@POSIX
def test_a_worker_of_other_files_or_settings_is_replaced_and_no_other(process_workspace: Made) -> None:
    workspace, client, asked = process_workspace
    assert len(renders(client.run(asked))) == 3
    first = pid_of(workspace)
    assert len(renders(client.run(asked))) == 3
    assert pid_of(workspace) == first
    changed = [replace(p, assets=(replace(p.assets[0], sha256="b" * 64),)) for p in asked]
    assert len(renders(client.run(changed))) == 3
    second = pid_of(workspace)
    assert second != first
    assert not is_running(first)
    other = ResidentEngine(
        workspace, Role(str(workspace.root), "fake", Settings("sequential")), client_files(client), 2.0
    )
    assert len(renders(other.run(changed))) == 3
    other.close()
    assert pid_of(workspace) != second
    assert not is_running(second)


def client_files(client: ResidentEngine) -> dict[str, Path]:
    common: Any = client.__dict__["_common"]
    return {name: Path(path) for name, path in common["files"].items()}


SLOW = """
import time
from sosie.engines import fake
whole = fake.FakeEngine.run
def slowly(self, plans):
    for event in whole(self, plans):
        time.sleep(0.1)
        yield event
fake.FakeEngine.run = slowly
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New processes have a fake engine that takes a tenth of a second a step."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "path"), *sys.path]))


@POSIX
@pytest.mark.usefixtures("slow")
def test_a_killed_worker_is_started_again_once_and_its_images_are_not_made_twice(process_workspace: Made) -> None:
    workspace, client, asked = process_workspace
    made: list[Render] = []
    for event in client.run(asked):
        if isinstance(event, Render):
            made.append(event)
            if len(made) == 1:
                kill_worker(workspace)
    assert [render.plan.id for render in made] == [planned.id for planned in asked]
    now = status(workspace)
    assert now is not None
    assert now.served == 2
    fatal = (kill_worker(workspace) for event in client.run(asked) if isinstance(event, Progress) and event.done == 1)
    with pytest.raises(EngineError, match=r"ended while it rendered plan .*, twice") as caught:
        list(fatal)
    assert "worker.log" in caught.value.hint
    assert len(renders(client.run(asked[:1]))) == 1


def kill_worker(workspace: Workspace) -> None:
    """Kills the worker, if one is there to be killed."""
    door = read_door(workspace.state)
    if door is not None and is_running(door.pid):
        os.kill(door.pid, signal.SIGKILL)
        assert eventually(lambda: not is_running(door.pid))


@POSIX
def test_a_worker_that_cannot_start_is_an_error_that_names_the_log(
    process_workspace: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, client, asked = process_workspace
    monkeypatch.setattr(resident, "MODULE", "sosie.no_such_module")
    with pytest.raises(EngineError, match=r"ended at its start \(exit code 1\)") as caught:
        client.check(asked[0])
    assert str(log_file(workspace)) in caught.value.hint
    assert "no_such_module" in log_file(workspace).read_text()


@POSIX
def test_the_worker_ends_with_its_workspace(process_workspace: Made) -> None:
    workspace, client, asked = process_workspace
    client.check(asked[0])
    pid = pid_of(workspace)
    client.close()
    shutil.rmtree(workspace.root)
    assert eventually(lambda: not is_running(pid))
    assert not workspace.root.exists()


def generate(out: Path, workspace: Path, *more: object) -> list[object]:
    common = ["--engine", "fake", "--out", out, "--workspace", workspace, "--json"]
    return ["generate", "mira", "smiling", "-n", 1, "--seed", 7, *common, *more]


@POSIX
def test_generate_with_a_worker_prints_and_records_what_it_does_without(
    sosie: Sosie, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "SOSIE_COMFY_TOKEN", "PYTHON_KEYRING"):
        monkeypatch.setenv(name, "hf_very_secret")
    plain = tmp_path / "plain"
    shutil.copytree(workspace, plain)
    without = sosie(*generate(tmp_path / "a", plain))
    kept = sosie(*generate(tmp_path / "b", workspace, "--keep-loaded", 2))
    assert (kept.code, kept.err.replace("/b/", "/a/")) == (without.code, without.err), kept.err

    def facts(text: str) -> list[dict[str, Any]]:
        return [{**json.loads(line), "image": "", "seconds": 0} for line in text.splitlines()]

    assert facts(kept.out) == facts(without.out)
    assert recorded(workspace) == recorded(plain)

    told = json.loads(sosie("worker", "status", "--json", "--workspace", workspace).out)
    assert told["running"] is True
    assert told["engine"] == "fake"
    assert told["served"] == len(recorded(workspace))
    assert 60 < told["ends_in"] <= 120
    check_apart(told["pid"], workspace)

    assert sosie("worker", "stop", "--workspace", workspace).code == 0
    assert not is_running(told["pid"])
    assert json.loads(sosie("worker", "status", "--json", "--workspace", workspace).out) == {"running": False}
    assert json.loads(sosie("worker", "stop", "--json", "--workspace", workspace).out) == {"stopped": False}
    assert [path.name for path in (workspace / ".sosie" / "worker").iterdir()] == ["lock"]


def recorded(workspace: Path) -> list[tuple[str, str, str]]:
    """Plan, engine and pixels of every render in the store."""
    sql = "SELECT plan, engine, pixels FROM renders JOIN images ON images.sha256 = renders.image ORDER BY plan"
    return ask(workspace / ".sosie" / "catalogue.sqlite", sql)


def check_apart(pid: int, workspace: Path) -> None:
    """The worker has a session of its own, no input, no secrets, and its key stands in no log."""
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
    assert b"hf_very_secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    door = read_door(workspace / ".sosie")
    assert door is not None
    log = workspace / ".sosie" / "logs" / "worker.log"
    assert f"worker {pid}" in log.read_text()
    assert door.key not in log.read_text()
    assert door.key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


@POSIX
@pytest.mark.usefixtures("slow")
def test_an_interrupt_ends_the_command_and_not_the_worker(workspace: Path, tmp_path: Path) -> None:
    arguments = [str(part) for part in generate(tmp_path / "o", workspace, "--keep-loaded", 2, "-n", 9)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from sosie.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: the whole group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in err
    found = open_workspace(workspace)
    pid = pid_of(found)
    assert eventually(lambda: (now := status(found)) is not None and now.ends_in is not None)
    made = len(recorded(workspace))
    assert 1 <= made < 9
    assert pid_of(found) == pid
    os.kill(pid, signal.SIGTERM)
    assert eventually(lambda: not is_running(pid))
    assert status(found) is None


# And with real models.


@pytest.mark.local
def test_a_second_command_does_not_load_the_model_again_and_draws_the_same(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.workspace.bill import resolve
    from sosie.workspace.characters import load_character
    from sosie.workspace.recipes import load_recipe

    pipeline: Any = importlib.import_module("sosie.families.sdxl.diffusers.pipeline")
    loaded: list[Path] = []
    load = pipeline._load
    monkeypatch.setattr(pipeline, "_load", lambda path, *rest: loaded.append(path) or load(path, *rest))
    monkeypatch.setattr(resident, "MODULE", "no.such.module")
    opened = open_workspace(workspace)
    character, recipe = load_character(opened, "mira"), load_recipe(opened, "mini")
    first = recipe.stages[0]
    quick = replace(recipe, stages=(replace(first, loras=(), sampler=replace(first.sampler, steps=2)),), repair=())
    free = replace(quick, stages=(replace(quick.stages[0], guides=(), sampler=Sampler("euler", steps=2)),))
    bill = resolve(opened, quick.stages, character)
    asked = [
        plan(which, character, Request("mini", "mira", prompt), Draw(index), bill.digests)
        for which, prompt, index in ((quick, "smiling", 0), (free, "in the rain", 1), (quick, "smiling", 2))
    ]
    with Session(opened) as session:
        files = bill.paths
        straight = make_engine(session, "diffusers", files)
        expected = [pixels_digest(render.image) for planned in asked for render in renders(straight.run([planned]))]
        name = straight.name
        straight.close()
        loaded.clear()
        kept: dict[str, Path] = {}
        engine: Any = make_engine(session, "diffusers", kept)
        engine.gate = threading.Event()
        house = House(workspace, engine, kept)
        got: list[str] = []
        for planned in (asked[0], asked[1], asked[2], asked[0]):
            client = house.client(files=files)
            assert client.name == name
            assert client.check(planned) == engine.check(planned)
            got += [pixels_digest(render.image) for render in renders(client.run([planned]))]
            half = client.run([planned])
            while next(half).done < 1:  # type: ignore[union-attr]
                pass
            half.close()
            client.close()
        house.close()
        engine.close()
    assert got == [*expected, expected[0]]
    assert len(loaded) == 1


def test_a_worker_that_was_started_beside_another_one_does_not_take_its_place_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, link = open_workspace(tmp_path), cast(Any, object())
    role = Role(str(tmp_path), "fake", Settings())
    spare = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    first = resident.Door("there", "00", spare.pid + 1, resident.role_digest(role, workspace.config))
    found = iter([None, (first, link)])
    monkeypatch.setattr(resident, "reach", lambda *_: next(found))
    monkeypatch.setattr(resident, "_start", lambda *_: spare)
    assert resident.hire(workspace, role) is link
    assert spare.poll() is not None
