"""ComfyUI on a rented machine, by the pod's name: waited for, given a user's own workflow, and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from far_machine import FarMachine, far_machine
from workflow_files import Drawing, draw_body

from sosie.api.engines import open_users_workflow
from sosie.api.renting.comfyui import B009, await_comfyui
from sosie.core import Finding, Note, Progress
from sosie.core.errors import NotFoundError
from sosie.engines.comfy.fake import Behaviour, FakeServer, Scripted
from sosie.machines.ssh import command as command_module
from sosie.pods.pod import Pod, save_pod
from sosie.pods.renting import Clock
from sosie.servers import address
from sosie.workspace.workspace import Workspace, open_workspace

pytestmark = pytest.mark.once

OWN: dict[str, Any] = {"SomeoneElses": {"input": {"required": {"image": ["IMAGE"]}}, "output": ["IMAGE"]}}


def flow() -> dict[str, Any]:
    """A file of ComfyUI's editor with a class that only the server knows."""
    drawn = Drawing()
    draw_body(drawn)
    drawn.add(20, "SomeoneElses", {"image": (9, 0, "IMAGE")}, [], gives=("IMAGE",))
    drawn.add(21, "SaveImage", {"images": (20, 0, "IMAGE")}, ["x"])
    return drawn.file()


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    yield far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    command_module._is_strict.cache_clear()


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    """A workspace with the pod `elena`, which was rented with the template."""
    (tmp_path / "w").mkdir()
    workspace = open_workspace(tmp_path / "w")
    save_pod(workspace, Pod("elena", "vast", "l", "11", "card", 0.2, 1, "", "", "1", "root@far:40022", "", "comfyui"))
    return workspace


class Time:
    """A clock that goes on only when somebody waits, and does something then."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.at = 0.0
        self._meanwhile = meanwhile

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.at, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.at += seconds
        self._meanwhile()


def test_comfyui_is_waited_for_until_it_answers(
    far: FarMachine, here: Workspace, near: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "TEMPLATE_PORT", 1)  # where nothing listens

    def starts() -> None:
        if time.at >= 30:
            monkeypatch.setattr(address, "TEMPLATE_PORT", int(near.url.rpartition(":")[2]))

    time = Time(starts)
    *waits, last = await_comfyui(here, "elena", time.clock)
    assert [one.done for one in waits if isinstance(one, Progress)] == [0.0, 10.0, 20.0, 30.0]
    assert last == Note("ComfyUI 0.33.0 answers: --engine comfy+ssh:elena")


def test_one_that_never_answers_is_a_warning_that_says_what_bills(
    far: FarMachine, here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "TEMPLATE_PORT", 1)
    time = Time()
    *_, last = await_comfyui(here, "elena", time.clock, 20.0)
    assert isinstance(last, Finding)
    assert (last.code, last.severity, last.subject) == (B009.code, "warning", "elena")
    assert "it bills on" in last.hint
    assert "pod down elena" in last.hint
    assert time.at == 20.0


@pytest.mark.parametrize("says", ["Permission denied (publickey).", "Host key verification failed."])
def test_a_login_that_is_final_is_not_waited_for(far: FarMachine, here: Workspace, says: str) -> None:
    far.behave(says=says)
    time = Time()
    *_, last = await_comfyui(here, "elena", time.clock)
    assert isinstance(last, Finding)
    assert time.at == 0.0


def test_a_users_workflow_is_read_by_the_classes_of_the_pods_server(far: FarMachine, here: Workspace) -> None:
    file = here.root / "flow.json"
    file.write_text(json.dumps(flow()))
    with FakeServer(Behaviour(scripted={"/object_info": Scripted(body=json.dumps(OWN).encode())})) as server:
        port = server.url.rpartition(":")[2]
        assert open_users_workflow(here, file, [], f"comfy+ssh:elena?port={port}").recipe.name
    with pytest.raises(NotFoundError, match="no pod 'anna'"):
        open_users_workflow(here, file, [], "comfy+ssh:anna")


def test_a_pods_server_is_recorded_by_the_pods_name_without_its_address(
    sosie: Callable[..., Any], far: FarMachine, here: Workspace, near: FakeServer
) -> None:
    subject = f"comfy+ssh:elena?port={near.url.rpartition(':')[2]}"
    done = sosie("comfy", "record", subject, "--workspace", here.root)
    assert done.code == 0, done.err
    assert json.loads(done.out)["system_stats"]["system"]["comfyui_version"] == "0.33.0"
    assert "40022" not in done.out
    assert f"-i {here.state / 'pods' / 'elena' / 'key'}" in far.calls[0]["options"]
