"""An open ssh connection that commands share (OpenSSH's ControlMaster), with or without a forwarded port."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.core.errors import UsageError
from sosie.machines.ssh.command import NEW_KEY, Command, end, opens_home, remote_words, ssh_words, start
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import X001, SshError, failed, nonsense, plain, unreached

LIFELINE = "exec cat >/dev/null"
"""What runs there: it ends when our end of its stdin closes, and that closes when this process ends, however."""

KEPT_LINES = 60


@dataclass(frozen=True)
class Forward:
    """Connections to `local` on this machine (127.0.0.1 only) come out at 127.0.0.1:`remote` there."""

    local: int
    remote: int


class SshConnection:
    """One connection, open from the constructor on until `close`, or until the line breaks.

    It needs nobody who closes it: ssh hangs on a pipe to this process and ends with it, even with a kill -9.
    """

    def __init__(
        self,
        host: Host,
        forward: Forward | None = None,
        timeout: float = 30.0,
        cancelled: threading.Event | None = None,
    ) -> None:
        """Raises `SshError`, also when `cancelled` is set in the meantime."""
        self.control = host.control or control_path()
        self.host = replace(host, control=self.control)
        self.new_key = ""
        """The host key that was taken at this first contact (type and SHA-256), or empty."""
        self.refusals = 0
        """How often nothing listened at the far end of the forward."""
        self._key = ""
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._mark = f"sosie-{secrets.token_hex(8)}"
        self._is_open = threading.Event()
        self.control.unlink(missing_ok=True)
        if forward and (opened := opens_home(host)):
            # ssh clears all forwards or none, and this one is needed.
            what = f"would be given a port of this machine by your configuration of ssh ({plain(opened, 80)})"
            raise nonsense(host, what, "put the machine into a Host block of its own, without RemoteForward")
        self._process = start(host, self._words(forward), with_input=True)
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        threading.Thread(target=self._await_mark, daemon=True).start()
        try:
            self._wait_until_open(timeout, cancelled or threading.Event())
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether ssh still runs; it notices within 30 s that a line is dead."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Returns when the connection is over."""
        self._process.wait()

    def close(self) -> None:
        """Ends it, and what is forwarded through it."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        end(self._process)
        self._reader.join(2.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
        self.control.unlink(missing_ok=True)

    def _words(self, forward: Forward | None) -> list[str]:
        words = [*ssh_words(self.host, forwards=forward is not None), "-v", "-M"]
        if forward:
            words += ["-o", "ExitOnForwardFailure=yes", "-o", "GatewayPorts=no"]
            words += ["-L", f"127.0.0.1:{forward.local}:127.0.0.1:{forward.remote}"]
        return [*words, "--", self.host.destination, remote_words(self._mark, Command(LIFELINE))]

    def _wait_until_open(self, timeout: float, cancelled: threading.Event) -> None:
        until = time.monotonic() + timeout
        while not self._is_open.wait(0.05):
            if not self.is_alive:
                self._reader.join(2.0)
                raise self._failure()
            if cancelled.is_set():
                raise unreached(self.host, "the attempt was cancelled")
            if time.monotonic() > until:
                raise unreached(self.host, f"it was not open after {timeout:,.0f} s")

    def _failure(self) -> SshError:
        said = "\n".join(self._said)
        if re.search(r"cannot listen to port|Could not request local forwarding|Address already in use", said):
            return PortTakenError(X001, f"a local port for {self.host.name} is taken by another program")
        return failed(self.host, said)

    def _await_mark(self) -> None:
        """Sets `_is_open` when the command there speaks; reads on, so that greetings block nothing."""
        stream, tail = self._process.stdout, b""
        with contextlib.suppress(OSError, ValueError):
            while stream and (chunk := os.read(stream.fileno(), 4096)):
                tail = (tail + chunk)[-8192:]
                if self._mark.encode() in tail:
                    self._is_open.set()

    def _listen(self) -> None:
        """Reads what ssh says: the host's key, what goes wrong, and refused ends of the forward."""
        stream, rest = self._process.stderr, b""
        with contextlib.suppress(OSError, ValueError):
            # Not by the stream's own methods: their lock, held while Python ends, would end it with an abort.
            while stream and (chunk := os.read(stream.fileno(), 4096)):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(line.decode("utf-8", "replace").rstrip())
                rest = rest[-4096:]
        self._take(rest.decode("utf-8", "replace").rstrip())

    def _take(self, line: str) -> None:
        if found := re.match(r"debug1: Server host key: (\S{1,60}) (SHA256:\S{1,80})", line):
            self._key = plain(f"{found[1]} {found[2]}")
        elif line.startswith(NEW_KEY):
            self.new_key = self._key or plain(line)
        elif "open failed: connect failed" in line:
            self.refusals += 1
        if not line.startswith("debug"):
            self._said.append(line[:1000])


class PortTakenError(SshError):
    """The local port of a forward is in use; another one may be free."""


def control_path() -> Path:
    """A new socket's path, in a folder that is this user's alone, and short: systems allow about 100 letters.

    Raises `UsageError` if another user owns the folder, and on Windows, whose ssh cannot share a connection.
    """
    if sys.platform == "win32":
        raise UsageError(
            "Windows' ssh cannot share a connection (ControlMaster), which work on a remote machine needs",
            "run Sosie in WSL; or open a tunnel yourself, `ssh -N -L 8188:127.0.0.1:8188 HOST`, "
            "and use --engine comfy:http://127.0.0.1:8188",
        )
    user = hashlib.sha256(str(Path.home()).encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir()) / f"sosie-{os.getuid()}-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UsageError(f"{folder} is not this user's own folder, and ssh's sockets go there", f"remove {folder}")
    return folder / secrets.token_hex(4)
