"""A real sshd on this machine, at a high port, whose logins have a home folder of the test's."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from far_machine import executable
from processes import until

from sosie.machines.ssh import Host

SEPARATION = Path("/run/sshd")
"""The empty folder that sshd wants when root starts it; the package leaves it to systemd to make."""


@dataclass
class Sshd:
    """The server: `host` is how it is reached, `home` what its logins have as $HOME."""

    folder: Path
    program: str
    port: int
    variables: dict[str, str] = field(default_factory=dict[str, str])
    """Those of its logins, beside HOME."""
    _server: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    @property
    def host(self) -> Host:
        return Host("127.0.0.1", getpass.getuser(), self.port, self.folder / "user", self.folder / "known_hosts")

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def authorized(self) -> Path:
        """The file of the keys that may log in."""
        return self.folder / "user.pub"

    def start(self, key: str = "host") -> None:
        """From here on with the host key of that name: `host`, or `other`."""
        self.stop()
        lines = [
            *(f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder}/{key}", "StrictModes no"),
            *(f"AuthorizedKeysFile {self.authorized}", "PidFile none", "PasswordAuthentication no", "UsePAM no"),
            "SetEnv " + " ".join(f"{name}={value}" for name, value in {"HOME": self.home, **self.variables}.items()),
        ]
        config = self.folder / "config"
        config.write_text("\n".join(lines) + "\n")
        self._server = [subprocess.Popen([self.program, "-D", "-f", str(config)], stderr=subprocess.DEVNULL)]
        assert until(lambda: answers(self.port), 20)

    def stop(self) -> None:
        """What is logged in loses its line; what was detached goes on."""
        for server in self._server:
            self.drop_lines()
            server.kill()
            server.wait()
        self._server = []

    def drop_lines(self) -> int:
        """Kills the processes of all that is logged in; gives how many there were."""
        found = [pid for server in self._server for pid in _children(server.pid)]
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


@contextmanager
def loopback_sshd(folder: Path) -> Generator[Sshd]:
    """Skips the test where no sshd is installed, or root has not made what it wants."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None or not shutil.which("ssh-keygen"):
        pytest.skip("no sshd is installed: apt-get install openssh-server")
    if os.getuid() == 0 and not SEPARATION.is_dir():
        pytest.skip(f"sshd cannot be started by root without its folder: mkdir {SEPARATION}")
    folder.mkdir(exist_ok=True)
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    sshd = Sshd(folder, program, free_port())
    sshd.home.mkdir()
    try:
        sshd.start()
        yield sshd
    finally:
        sshd.stop()


def known_to_ssh(sshd: Sshd, set_path: Callable[[str], None]) -> None:
    """Has the `ssh` of commands log in there: the system's own, with a configuration of the test's in place of ours."""
    config, near = sshd.folder / "client", sshd.folder / "near"
    near.mkdir()
    config.write_text(
        f"Host 127.0.0.1\n IdentityFile {sshd.folder}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {sshd.folder}/known_hosts\n"
    )
    executable(near / "ssh", f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    set_path(f"{near}:{os.environ['PATH']}")


def _children(pid: int) -> list[int]:
    """The processes that one started and that are still its own."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def free_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something listens at a port of this machine."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
