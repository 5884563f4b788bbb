"""No key of an account is in anything that renting, using and exporting machines writes, says, sends or runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from far_machine import FarMachine, far_machine

from sosie.engines.comfy.fake import FakeServer
from sosie.machines.ssh import command as command_module
from sosie.pods import renting
from sosie.pods.providers import runpod as runpod_module
from sosie.pods.providers import vast as vast_module
from sosie.pods.providers.fake_runpod import FakeRunPod
from sosie.pods.providers.fake_vast import FakeVast
from sosie.servers import address

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
SECRETS = {
    "VAST_API_KEY": "key-of-mine-at-vast-0001",
    "RUNPOD_API_KEY": "key-of-mine-at-runpod-0002",
    "HF_TOKEN": "hf_token-of-mine-0003",
    "CIVITAI_TOKEN": "civitai-token-of-mine-0004",
    "SOSIE_COMFY_TOKEN": "comfy-token-of-mine-0005",
}
RENT = ("--hours", "4", "--max-cost", "4.00", "--disk", "60GB", "--yes", "--no-card", "-v")
DF = "echo Filesystem 1024-blocks Used Available Capacity Mounted on; echo x 100000000 0 100000000 0% /"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    machine = far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    machine.program("df", DF)
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setattr(renting, "BETWEEN", 0.01)
    yield machine
    command_module._is_strict.cache_clear()


def found_in(place: str, content: bytes) -> list[str]:
    return [f"{name} in {place}" for name, secret in SECRETS.items() if secret.encode() in content]


def leaks(folder: Path, said: list[Any], requests: list[Any]) -> list[str]:
    """Where a secret is: in a file (the calls of ssh with their environment among them), an output or a request."""
    files = [one for path in folder.rglob("*") if path.is_file() for one in found_in(str(path), path.read_bytes())]
    outputs = [one for done in said for one in found_in("an output", f"{done.out}{done.err}".encode())]
    return [*files, *outputs, *found_in("a request", repr(requests).encode())]


@pytest.mark.parametrize("kind", ["vast", "comfyui", "runpod"])
def test_a_rented_machine_never_sees_a_key_of_the_account(
    sosie: Sosie, tmp_path: Path, far: FarMachine, near: FakeServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    is_runpod, at = kind == "runpod", ("--workspace", tmp_path)
    fake_type, module = (FakeRunPod, runpod_module) if is_runpod else (FakeVast, vast_module)
    name = "RUNPOD" if is_runpod else "VAST"
    monkeypatch.setattr(fake_type, "KEY", SECRETS[f"{name}_API_KEY"])
    monkeypatch.setattr(module.PROVIDER, "_given", None)
    monkeypatch.setattr(address, "TEMPLATE_PORT", int(near.url.rpartition(":")[2]))
    more = ("--template", "comfyui") if kind == "comfyui" else ("--provider", name.lower())
    with fake_type(ssh=("127.0.0.1", 40022)) as fake:
        monkeypatch.setenv(f"{name}_URL", fake.url)
        said = [sosie("pod", "up", "elena", *RENT, *more, *at)]
        assert said[0].code == 0, said[0].err
        (tmp_path / "a.bin").write_bytes(b"x" * 1000)
        said += [sosie("pod", "list", "--provider", name.lower(), "--all", "-v", *at)]
        said += [sosie("pod", "push", "elena", tmp_path / "a.bin", f"{far.root}/a.bin", *at)]
        look = f"env >{far.root}/env; cat /proc/[0-9]*/cmdline >{far.root}/ps 2>/dev/null || true"
        said += [sosie("pod", "ssh", "elena", "sh", "-c", look, *at)]
        said += [sosie("doctor", "pod:elena", "-v", *at)]
        if kind == "comfyui":
            said += [sosie("doctor", "comfy+ssh:elena", "-v", *at), sosie("comfy", "record", "comfy+ssh:elena", *at)]
        said += [sosie("pod", "down", "elena", "--yes", "-v", *at)]
        monkeypatch.setattr(fake_type, "KEY", "another")  # from here on the server refuses the key
        module.PROVIDER._given = None
        said += [sosie("pod", "list", "--provider", name.lower(), "-v", *at)]
        requests = list(fake.requests)
    module.PROVIDER._given = None
    assert said[-1].code != 0
    assert "PATH=" in (far.root / "env").read_text()
    assert b"python" in (far.root / "ps").read_bytes()
    assert far.calls
    assert requests
    assert leaks(tmp_path, said, requests) == []


def test_what_is_exported_for_other_engines_holds_no_key(
    sosie: Sosie, tmp_path: Path, far: FarMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    at = ("--at", "/plans", "-n", "3", "--hours", "1", "--workspace", tmp_path)
    copies = ("--fetch", "rclone copy b:plans /plans", "--deliver", "rclone copy /plans/drawn b:plans/drawn")
    said = [sosie("pod", "export", "plans", "--to", "slurm", *at)]
    said += [sosie("pod", "export", "plans", "--to", "k8s", "--claim", "plans", *at)]
    said += [sosie("pod", "export", "plans", "--to", "dstack", "--memory", "24GB", "--on", "vast,runpod", *copies, *at)]
    said += [sosie("pod", "export", "plans", "--to", "skypilot", "--gpu", "L4", "--on", "aws,gcp", *copies, *at)]
    assert [one.code for one in said] == [0, 0, 0, 0], [one.err for one in said]
    assert {(tmp_path / one.out.strip()).is_file() for one in said} == {True}
    assert leaks(tmp_path, said, []) == []


def test_a_secret_that_is_written_anywhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(f"Authorization: Bearer {SECRETS['RUNPOD_API_KEY']}")
    assert leaks(tmp_path, [], [("GET", f"/?api_key={SECRETS['VAST_API_KEY']}", None)]) == [
        f"RUNPOD_API_KEY in {tmp_path / 'x'}",
        "VAST_API_KEY in a request",
    ]
