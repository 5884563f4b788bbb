"""A real sshd on this machine, at a high port, whose logins have a home folder of the test's."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import until

from sosie.machines.ssh import Host


@contextmanager
def loopback_sshd(folder: Path) -> Generator[Host]:
    """Skips the test where no sshd is installed."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if sshd is None or not shutil.which("ssh-keygen") or (os.getuid() == 0 and not Path("/run/sshd").is_dir()):
        pytest.skip("no sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    home = folder / "home"
    home.mkdir()
    lines = [
        *(f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", "StrictModes no", "UsePAM no"),
        *(f"AuthorizedKeysFile {folder}/user.pub", "PidFile none", "PasswordAuthentication no"),
        f"SetEnv HOME={home}",
    ]
    (folder / "config").write_text("\n".join(lines) + "\n")
    server = subprocess.Popen([sshd, "-D", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(port), 20)
        yield Host("127.0.0.1", getpass.getuser(), port, folder / "user", folder / "known_hosts")
    finally:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    """Whether something listens at a port of this machine."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
