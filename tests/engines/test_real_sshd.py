"""The commands on machines behind a real sshd: by ssh, and rented from the fake of Vast.ai."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_sshd import Sshd, free_port, known_to_ssh, loopback_sshd
from processes import until

from sosie.engines.far import engine
from sosie.engines.far.site import read_site
from sosie.machines.ssh import command as command_module
from sosie.pods import renting
from sosie.pods.providers import vast as vast_module
from sosie.pods.providers.fake_vast import KEY, FakeVast

pytestmark = pytest.mark.once

Command = Callable[..., Any]
RENT = ("--disk", "60GB", "--place", "EU", "--hours", "4", "--max-cost", "2.00", "--yes", "--no-card")


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    command_module._is_strict.cache_clear()
    with loopback_sshd(tmp_path / "sshd") as server:
        known_to_ssh(server, lambda path: monkeypatch.setenv("PATH", path))
        yield server
        for pid in workers(server):
            os.kill(pid, signal.SIGKILL)
    command_module._is_strict.cache_clear()


def workers(server: Sshd) -> list[int]:
    """The processes that draw in the home folder of the logins, detached."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"spool_worker" in words and str(server.home).encode() in words:
            found.append(int(entry.name))
    return found


@pytest.fixture
def plans(sosie: Command, tmp_path: Path, references: list[Path]) -> Path:
    """Two plans for a character whose references nobody has looked at."""
    folder = tmp_path / "characters" / "mira"
    (folder / "references").mkdir(parents=True)
    for reference in references[:2]:
        shutil.copy(reference, folder / "references")
    (folder / "character.toml").write_text('name = "mira"\nlikeness = "fictional"\nadult = true\n')
    done = sosie("generate", "mira", "smiling", "-n", "2", "--plans", tmp_path / "plans", "--workspace", tmp_path)
    assert done.code == 0, done.err
    return tmp_path / "plans"


def test_images_come_by_ssh_through_a_line_that_is_killed_and_another_host_key_ends_it(
    sosie: Command, plans: Path, tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is there draws with the engine `fake`: the way there is what is tried, and torch would cost half a minute.
    monkeypatch.setattr(engine, "read_site", lambda text: replace(read_site(text), engine="fake"))
    for name in ("HF_TOKEN", "VAST_API_KEY", "RUNPOD_API_KEY"):
        monkeypatch.setenv(name, "s3cret-of-mine")
    machine, at = f"ssh:root@127.0.0.1:{sshd.port}", ("--workspace", tmp_path)
    asked = sosie("doctor", machine, *at)
    assert (asked.code, "SOS-X005" in asked.err, "SOS-X015" in asked.err) == (0, True, True), asked.err
    assert "SOS-X005" not in sosie("doctor", machine, *at).err  # its key is known by now

    drops: list[int] = []

    def cut() -> None:
        """When the worker draws, every line ends: its own, and whatever else is logged in."""
        if until(lambda: workers(sshd), 60):
            drops.append(sshd.drop_lines())

    thread = threading.Thread(target=cut)
    thread.start()
    done = sosie("worker", "draw", plans, "--engine", f"{machine}?python={sys.executable}", *at)
    thread.join()
    assert done.code == 0, done.err
    assert drops
    assert drops[0] >= 1
    assert len(list((plans / "drawn").iterdir())) == 2
    for path in sshd.home.rglob("*"):
        if path.is_file():
            assert b"s3cret-of-mine" not in path.read_bytes(), path
    for pid in workers(sshd):
        assert b"s3cret-of-mine" not in Path(f"/proc/{pid}/environ").read_bytes()

    sshd.start("other")
    draw = ("generate", "mira", "again", "--engine", f"{machine}?python={sys.executable}")
    done = sosie(*draw, *at)
    assert (done.code, "SOS-X002" in done.err, "ssh-keygen -R" in done.err) == (2, True, True), done.err
    asked = sosie("doctor", machine, *at)
    assert (asked.code, "SOS-X002" in asked.err) == (1, True)


def test_a_rented_machine_is_logged_into_with_the_key_that_it_was_given_and_no_other_machine_takes_its_place(
    sosie: Command, tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renting, "BETWEEN", 0.01)
    monkeypatch.setattr(vast_module.PROVIDER, "_given", None)
    roomy(sshd)
    at = ("--workspace", tmp_path)
    sshd.authorized.write_text("")  # nobody may log in until the provider is given a key
    with FakeVast(ssh=("127.0.0.1", sshd.port), authorized=sshd.authorized) as fake:
        monkeypatch.setenv("VAST_URL", fake.url)
        monkeypatch.setenv("VAST_API_KEY", KEY)
        fake.faults.create.append("504")
        done = sosie("pod", "up", "elena", *RENT, *at)
        assert (done.code, len(fake.instances)) == (0, 1), done.err
        folder = tmp_path / ".sosie" / "pods" / "elena"
        assert "ssh-ed25519" in (folder / "known_hosts").read_text()
        file = tmp_path / "a file.bin"
        file.write_bytes(content := os.urandom(3_000_000))
        there = f"{sshd.home}/it's $HOME/b.bin"
        assert sosie("pod", "push", "elena", file, there, *at).code == 0
        assert Path(there).read_bytes() == content
        assert sosie("pod", "pull", "elena", there, tmp_path / "c.bin", *at).code == 0
        assert (tmp_path / "c.bin").read_bytes() == content
        done = sosie("pod", "ssh", "elena", "sh", "-c", 'printf "%s" "$1"; exit 7', "sh", "a b'$c", *at)
        assert (done.code, done.out) == (7, "a b'$c")
        assert sosie("doctor", "pod:elena", *at).code == 0
        # A port of this machine that the user's configuration would open to every other one.
        with (sshd.folder / "client").open("a") as config:
            config.write(f" RemoteForward 127.0.0.1:{(back := free_port())} 127.0.0.1:{sshd.port}\n")
        tried = f"import socket, sys; sys.exit(socket.socket().connect_ex(('127.0.0.1', {back})) != 0)"
        assert sosie("pod", "ssh", "elena", sys.executable, "-c", tried, *at).code == 1

        sshd.start("other")
        done = sosie("pod", "ssh", "elena", "true", *at)
        assert (done.code, "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.err) == (255, True)
        done = sosie("pod", "pull", "elena", there, tmp_path / "d.bin", *at)
        assert (done.code, "another host key" in done.err) == (2, True)
        assert str(folder / "known_hosts") in done.err
        assert not (tmp_path / "d.bin").exists()
        assert sosie("pod", "down", "elena", "--yes", *at).code == 0
        assert fake.instances == {}
    vast_module.PROVIDER._given = None


def roomy(server: Sshd) -> None:
    """Has the machine say that 100 GB of its disk are free."""
    program = server.folder / "df"
    program.write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available; echo x 100000000 0 100000000 0% /\n")
    program.chmod(0o755)
    server.variables = {"PATH": f"{server.folder}:/usr/local/bin:/usr/bin:/bin"}
    server.start()
