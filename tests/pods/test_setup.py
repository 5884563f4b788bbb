"""A machine is made ready: the lock that the doctor chooses, work that no line ends, models by their digests."""

from __future__ import annotations

import http.server
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from far_machine import FarMachine, far_machine
from processes import until

from sosie.files.digest import asset_digest
from sosie.machines.facts import MachineFacts, machine_from_smi
from sosie.machines.ssh import Host, SshError
from sosie.machines.ssh import command as command_module
from sosie.machines.ssh.detached import begin, look
from sosie.machines.ssh.steady import Patience, steady
from sosie.machines.ssh.trouble import X001, X002
from sosie.pods.setup import assets as assets_module
from sosie.pods.setup import environment
from sosie.pods.setup.assets import Asset, bring, disk_for, missing_assets, place_of
from sosie.pods.setup.environment import PIP, Ground, ready
from sosie.pods.setup.layout import find_layout
from sosie.pods.setup.locks import TAGS, choose_lock, read_lock
from sosie.workspace.origin import Origin, write_origin

pytestmark = pytest.mark.once

FAR = Host("far", "root", 40022)
QUICK = Patience(lost=60.0, first=0.02, longest=0.1)
SOURCE = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FarMachine]:
    command_module._is_strict.cache_clear()
    yield far_machine(tmp_path, lambda path: monkeypatch.setenv("PATH", path))
    command_module._is_strict.cache_clear()


def card(name: str, compute: str, driver: str) -> MachineFacts:
    return machine_from_smi(
        f"name, compute_cap, driver_version, memory.total [MiB]\n{name}, {compute}, {driver}, 24576 MiB"
    )


@pytest.mark.parametrize(
    ("facts", "tag", "fails"),
    [
        (card("NVIDIA GeForce RTX 5090", "12.0", "580.65.06"), "cu130", False),
        (card("NVIDIA GeForce RTX 5090", "12.0", "570.86.10"), "cu128", False),
        (card("NVIDIA GeForce RTX 3090", "8.6", "560.28.03"), "cu126", False),
        (card("NVIDIA GeForce RTX 3090", "8.6", "550.54.14"), "cu128", False),
        (card("NVIDIA GeForce GTX 1080", "6.1", "580.65.06"), "cu126", False),
        (card("NVIDIA GeForce RTX 3090", "8.6", "470.82.01"), "", True),
        (card("NVIDIA GeForce GTX 780", "3.5", "580.65.06"), "", True),
        (MachineFacts(), "cu130", False),
    ],
)
def test_the_doctor_chooses_the_lock_by_card_and_driver(facts: MachineFacts, tag: str, fails: bool) -> None:
    lock, findings = choose_lock(facts)
    assert any(finding.severity == "error" for finding in findings) == fails
    if tag:
        assert lock.tag == tag


@pytest.mark.parametrize("tag", TAGS)
def test_a_lock_names_exact_versions_with_digests_and_no_place(tag: str) -> None:
    lock = read_lock(tag)
    assert lock.wheel.tag == tag
    assert lock.wheel.architectures
    assert lock.bytes > 10**9
    assert "://" not in lock.text
    wanted = re.findall(r"^([a-z0-9._-]+)(\S*)", lock.text, re.MULTILINE)
    assert {"torch", "diffusers", "transformers", "onnxruntime"} <= {name for name, _ in wanted}
    assert all(re.fullmatch(r"==\d[\w.]*", version) for _, version in wanted)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", lock.text)) >= len(wanted)


def test_detached_work_goes_on_without_a_line_and_tells_how_it_ended(far: FarMachine) -> None:
    folder = f"{far.root}/it's a job"
    gate = far.root / "gate"
    waiting = 'echo "$1"; while [ ! -e "$2" ]; do sleep 0.05; done; echo more; exit 3'
    begin(FAR, folder, waiting, ("a'b $x", str(gate)))
    begin(FAR, folder, "echo twice")
    assert look(FAR, folder).state == "runs"
    gate.touch()
    assert until(lambda: look(FAR, folder).state == "ended", 30)
    ended = look(FAR, folder)
    assert (ended.code, ended.said, ended.last_line) == (3, "a'b $x\nmore\n", "more")
    begin(FAR, folder, "echo $$; exec sleep 60")
    assert until(lambda: look(FAR, folder).last_line.isdigit() is True, 30)
    assert look(FAR, folder).state == "runs"
    os.killpg(int(Path(folder, "pid").read_text()), signal.SIGKILL)
    assert until(lambda: look(FAR, folder).state == "gone", 30)


def test_only_a_machine_that_cannot_be_reached_is_asked_again() -> None:
    def failing(rule: Any) -> Any:
        raised.append(1)
        if len(raised) < 3:
            raise SshError(rule, "no")
        return "yes"

    raised: list[int] = []
    assert steady(lambda: failing(X001), QUICK) == "yes"
    raised.clear()
    with pytest.raises(SshError):
        steady(lambda: failing(X002), QUICK)
    assert len(raised) == 1


def test_pip_goes_on_within_a_wheel_is_itself_pinned_and_what_it_says_is_wrong_is_told(
    far: FarMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What there installs is another's; here it tells what it would have run, and fails as pip does.
    head, _, install = environment.INSTALL.partition('"$found" -m venv "$env"\n')
    said = """echo "ERROR: $(tail -n 1 "$1"): THESE PACKAGES DO NOT MATCH THE HASHES"; echo "     Got abc"; exit 1"""
    first, _, rest = install.partition("install() {")
    stub = f'{head}mkdir -p "$env"; {first}install() {{ echo "resumes $PIP_RESUME_RETRIES"; {said}; }}\n'
    monkeypatch.setattr(environment, "INSTALL", stub + rest.partition("; }\n")[2])
    monkeypatch.setattr(environment, "GLANCE", 0.02)
    far.program("python3.12", f'exec {sys.executable} "$@"')
    layout, lock = find_layout(FAR), read_lock("cu130")
    with pytest.raises(SshError, match="DO NOT MATCH THE HASHES") as failed:
        list(ready(FAR, layout, lock, "", QUICK))
    assert "Got abc" not in failed.value.message
    assert PIP in failed.value.message  # pip comes first, with its digest
    assert "resumes 50" in look(FAR, layout.job(f"install-{lock.name}")).said


def folder_of(place: Path) -> Path:
    folder = place / "pipe line"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "a.safetensors").write_bytes(os.urandom(5000))
    (folder / "empty.txt").write_bytes(b"")
    (folder / ".hidden").write_text("x")
    return folder


def test_a_folder_is_there_with_the_same_digest_and_brought_once(
    far: FarMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets_module, "SMALL", 4000)
    asset = Asset(folder := folder_of(tmp_path), asset_digest(folder))
    layout, ground = find_layout(FAR), Ground(sys.executable, SOURCE)
    assert disk_for([asset]) == 2 * asset.bytes == 2 * 5002
    list(bring(FAR, layout, ground, [asset], QUICK))
    assert asset_digest(Path(place_of(layout, asset))) == asset.sha256
    assert missing_assets(FAR, layout, [asset]) == ()
    before = len(far.calls)
    list(bring(FAR, layout, ground, [asset], QUICK))
    assert len(far.calls) == before + 1


class Publisher(http.server.BaseHTTPRequestHandler):
    content = b""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", "whole"))
        start = int((self.headers.get("Range") or "bytes=0-").partition("=")[2].rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("ETag", '"one"')
        self.end_headers()
        # The first answer with a body that is read breaks off in the middle.
        self.wfile.write(self.content[start : 1500 if len(self.asked) == 2 else None])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("sent", ["itself", "another"])
def test_a_machine_fetches_what_has_an_origin_and_gets_the_rest_from_here(
    far: FarMachine, tmp_path: Path, sent: str
) -> None:
    file = tmp_path / "m.safetensors"
    file.write_bytes(content := os.urandom(3000))
    handler = type("Handler", (Publisher,), {"content": content if sent == "itself" else b"x" * 3000, "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/m.safetensors"
        sha256 = asset_digest(file)
        write_origin(file, Origin(url, "m", "", "ask", sha256, 3000, "2026-01-01T00:00:00Z"))
        asset, layout = Asset(file, sha256), find_layout(FAR)
        list(bring(FAR, layout, Ground(sys.executable, SOURCE), [asset], QUICK))
    finally:
        server.shutdown()
        server.server_close()
    assert Path(place_of(layout, asset)).read_bytes() == content
    was_pushed = any("dd of=" in str(call["command"]) for call in far.calls)
    assert was_pushed == (sent == "another")
    if sent == "itself":
        assert "bytes=1500-" in handler.asked
