"""A fake `ssh` for tests: commands run here, in a sandbox; ports are forwarded; lines break when told to."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMI = """
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 570.86.10              Driver Version: 570.86.10      CUDA Version: 12.8     |
+-----------------------------------------------------------------------------------------+
name, compute_cap, driver_version, memory.total [MiB], memory.free [MiB]
NVIDIA GeForce RTX 3090, 8.6, 570.86.10, 24576 MiB, 24200 MiB
"""

PROGRAM = r"""
import json, os, signal, socket, subprocess, sys, threading, time
from pathlib import Path

HOME = Path({home!r})
options, flags, forward, words = [], [], "", sys.argv[1:]
while words and words[0].startswith("-") and words[0] != "--":
    word = words.pop(0)
    if word in ("-o", "-p", "-i", "-e", "-L", "-S", "-F", "-l"):
        value = words.pop(0)
        options.append(value if word == "-o" else word + " " + value)
        forward = value if word == "-L" else forward
    else:
        flags.append(word)
if words and words[0] == "--":
    words.pop(0)
destination, command = words[0], words[1:]
behaviour = json.loads((HOME / "behaviour.json").read_text())
if "-G" in flags:
    print("stricthostkeychecking " + behaviour.get("strict", "ask") + "\n" + behaviour.get("config", ""))
    sys.exit(0)
with (HOME / "calls.jsonl").open("a") as calls:
    told = dict(options=options, flags=flags, destination=destination, command=command, pid=os.getpid())
    calls.write(json.dumps(told | dict(environment=dict(os.environ), time=time.monotonic())) + "\n")
says = sys.stderr.write
if behaviour.get("says"):
    says(behaviour["says"] + "\n")
    sys.exit(255)
if "-v" in flags:
    says("debug1: Server host key: ssh-ed25519 SHA256:" + "k" * 43 + "\n")
if behaviour.get("new_key"):
    says("Warning: Permanently added '[far]:40022' (ED25519) to the list of known hosts.\r\n")
time.sleep(behaviour.get("slow", 0))
sys.stderr.flush()

def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for one in (a, b):
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

def serve(listener, far):
    while True:
        near, _ = listener.accept()
        try:
            end = socket.create_connection(("127.0.0.1", far))
        except OSError:
            says("channel 2: open failed: connect failed: Connection refused\n")
            sys.stderr.flush()
            near.close()
            continue
        threading.Thread(target=pump, args=(near, end), daemon=True).start()
        threading.Thread(target=pump, args=(end, near), daemon=True).start()

if forward:
    _, near, _, far = forward.split(":")
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(near)))
    except OSError:
        says("bind [127.0.0.1]:%s: Address already in use\n" % near)
        sys.exit(255)
    listener.listen()
    threading.Thread(target=serve, args=(listener, int(far)), daemon=True).start()
if behaviour.get("greets"):
    sys.stdout.write(behaviour["greets"] + "\n")
    sys.stdout.flush()
path = str(HOME / "bin") + ":" + behaviour.get("path", os.environ["PATH"])
environment = dict(PATH=path, HOME=str(HOME), LC_ALL="C")
line = " ".join(command)
cut = behaviour.get("cuts", [])
most = cut.pop(0) if cut and "dd of=" in line else None
if most is not None:
    (HOME / "behaviour.json").write_text(json.dumps(behaviour))
    child = subprocess.Popen(["sh", "-c", line], stdin=subprocess.PIPE, cwd=HOME, env=environment)
    child.stdin.write(sys.stdin.buffer.read(most))
    child.stdin.close()
    child.wait()
    says("client_loop: send disconnect: Broken pipe\n")
    sys.exit(255)
child = subprocess.Popen(["sh", "-c", line], cwd=HOME, env=environment, start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: (os.killpg(child.pid, 9), os._exit(255)))
sys.exit(child.wait())
"""


@dataclass(frozen=True)
class FarMachine:
    """The sandbox: its files lie in `root`. `behave` sets what ssh does next; `calls` is what it was asked."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "far"

    def behave(self, **behaviour: Any) -> None:
        part = self.home / "behaviour.part"
        part.write_text(json.dumps(behaviour))
        part.replace(self.home / "behaviour.json")

    @property
    def calls(self) -> list[dict[str, Any]]:
        file = self.home / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def program(self, name: str, script: str) -> None:
        """Puts a program onto the machine's PATH."""
        executable(self.home / "bin" / name, f"#!/bin/sh\n{script}\n")


def far_machine(folder: Path, set_path: Callable[[str], None]) -> FarMachine:
    """A machine in `folder`, and a fake `ssh` before all others on the PATH that `set_path` sets."""
    machine = FarMachine(folder / "machine")
    machine.root.mkdir(parents=True)
    (machine.home / "bin").mkdir()
    machine.behave()
    near = folder / "near"
    near.mkdir()
    executable(near / "ssh", f"#!{sys.executable} -IS\n" + PROGRAM.replace("{home!r}", repr(str(machine.home))))
    set_path(f"{near}:{os.environ['PATH']}")
    return machine


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
