"""Commands on a machine: bounded in time and output, quoted, with ssh's own safety switched on."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import IO

from sosie.core.errors import UsageError
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import failed, nonsense, not_installed, plain, unreached

PASSED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "KRB5CCNAME",
    "XDG_RUNTIME_DIR",
)
"""The variables that ssh sees. No token is among them, so that no `SendEnv` can send one."""

SAFE = (
    *("BatchMode=yes", "NumberOfPasswordPrompts=0", "ConnectTimeout=10", "ConnectionAttempts=1"),
    *("ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "RemoteCommand=none", "Tunnel=no"),
    *("ServerAliveInterval=10", "ServerAliveCountMax=3", "TCPKeepAlive=yes", "ControlMaster=no"),
)
"""Asks nobody, opens nothing but what is asked for, and notices within 30 s that a line is dead."""

STDERR = 20_000
"""Bytes of what a command writes to stderr that are kept, the last ones."""

NEW_KEY = "Warning: Permanently added"
"""How ssh begins to say that it took a host key."""

FAILED = 255
"""ssh's own exit code for everything that went wrong on the way."""


@dataclass(frozen=True, eq=False)
class Command:
    """A script for `sh` with its arguments (`$1`, ...), which it may hold in quotes: `"$1"`.

    `data` is what it reads from stdin. It may write at most `limit` bytes to stdout.
    """

    script: str
    arguments: Sequence[str] = ()
    data: Iterable[bytes] | None = None
    limit: int = 1_000_000


@dataclass(frozen=True)
class Ran:
    """A command's exit code, what it wrote, and the end of what it complained about, as one line.

    `new_key` says that the machine's host key was not known and was taken; empty: it was known.
    """

    code: int
    out: bytes
    err: str
    new_key: str = ""

    @property
    def text(self) -> str:
        """What it wrote, as text."""
        return self.out.decode("utf-8", "replace")


def run(host: Host, command: Command, timeout: float = 60.0) -> Ran:
    """Runs a command on a machine; an exit code of its own is no error.

    Raises `SshError` if the machine cannot be reached, refuses, writes more than `command.limit`, or takes longer
    than `timeout` seconds. What the machine's own shell writes first (greetings) is not taken for the answer.
    """
    mark = f"sosie-{secrets.token_hex(8)}"
    words = [*ssh_words(host), "--", host.destination, remote_words(mark, command)]
    process = start(host, words, with_input=command.data is not None)
    work = _Work(process, command.data, command.limit + 65_536)
    try:
        if not work.wait(timeout):
            raise unreached(host, f"a command took longer than {timeout:,.0f} s")
        if work.is_too_long:
            raise nonsense(host, f"wanted to send more than {command.limit:,} bytes")
    finally:
        work.close()
    said = work.err.decode("utf-8", "replace")
    if process.returncode == FAILED:
        raise failed(host, said)
    _, marked, out = bytes(work.out).partition(mark.encode() + b"\n")
    if not marked:
        shown = plain(bytes(work.out[:200]).decode("utf-8", "replace"), 80) or plain(said, 80) or "nothing"
        raise nonsense(host, f"did not run a command; it answered '{shown}'", "the login must have a shell (sh)")
    if len(out) > command.limit:
        raise nonsense(host, f"wanted to send more than {command.limit:,} bytes")
    lines = said.splitlines()
    new_key = next((line for line in lines if line.startswith(NEW_KEY)), "")
    err = " ".join(line for line in lines if not line.startswith(NEW_KEY))
    return Ran(process.returncode, out, plain(err, 400), plain(new_key))


def check_login(host: Host, timeout: float = 30.0) -> None:
    """Logs in anew, beside an open connection, which lives on when a key is taken away. Raises `SshError`."""
    run(replace(host, control=None), Command("true"), timeout)


def remote_words(mark: str, command: Command) -> str:
    """One line that any login shell takes (bash, dash, zsh, fish, csh): it says `mark`, then runs the script."""
    return quoted(["sh", "-c", f"echo {mark}\n{command.script}", "sh", *command.arguments])


def quoted(words: Sequence[str]) -> str:
    """Words as one line that any login shell takes, each as it is. Raises `UsageError` for a NUL."""
    if any("\0" in word for word in words):
        raise UsageError("a command for ssh holds a NUL character")
    return " ".join(map(shlex.quote, words))


def ssh_words(host: Host, forwards: bool = False) -> list[str]:
    """`ssh` and its options, but for the destination. Options here come before those of its configuration.

    Unless it `forwards` a port itself, what the configuration forwards is left out: a `RemoteForward` would open a
    port of this machine to the other one.
    """
    words = ["ssh", "-T", "-e", "none", *([] if forwards else ["-o", "ClearAllForwardings=yes"])]
    for option in (*SAFE, *_host_keys(host), f"ControlPath={host.control or 'none'}"):
        words += ["-o", option]
    if host.port:
        words += ["-p", str(host.port)]
    if host.key:
        words += ["-o", "IdentitiesOnly=yes", "-i", str(host.key.absolute())]
    return words


def start(host: Host, words: list[str], with_input: bool) -> subprocess.Popen[bytes]:
    """Starts ssh in a session of its own, so that Ctrl-C reaches it through us only. Raises `SshError` without ssh."""
    try:
        return subprocess.Popen(  # noqa: S603  a list of words, the destination after "--"
            words,
            stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise not_installed(host) from None
    except OSError as error:
        raise unreached(host, f"ssh cannot be started: {error.strerror or error}") from None


def environment() -> Mapping[str, str]:
    """What ssh sees: English messages, and none of our secrets."""
    return {name: os.environ[name] for name in PASSED if name in os.environ} | {"LC_ALL": "C"}


def end(process: subprocess.Popen[bytes], patience: float = 2.0) -> None:
    """Ends a process: asked first, then killed."""
    for stop in (process.terminate, process.kill):
        if process.poll() is not None:
            return
        stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _host_keys(host: Host) -> list[str]:
    """New keys are taken (and told); where the user's configuration takes known ones only, that stays."""
    policy = "yes" if _is_strict(host.address, host.user, host.port) else "accept-new"
    words = [f"StrictHostKeyChecking={policy}"]
    if host.known_hosts:
        # The file stands in quotes, as in ssh's configuration, where '%' begins a token.
        path = str(host.known_hosts.absolute()).replace("%", "%%")
        words.append(f'UserKnownHostsFile="{path}"')
    return words


def opens_home(host: Host) -> str:
    """What of this machine the user's own configuration would open to the other one (`RemoteForward`), or empty."""
    lines = _settings(host.address, host.user, host.port)
    return next((line for line in lines if line.startswith("remoteforward ")), "")


@cache
def _is_strict(address: str, user: str, port: int) -> bool:
    """Whether the user's own configuration takes known host keys only."""
    lines = _settings(address, user, port)
    return any(line in ("stricthostkeychecking true", "stricthostkeychecking yes") for line in lines)


def _settings(address: str, user: str, port: int) -> list[str]:
    """What the user's own configuration comes to for a machine, a line each; none if ssh does not tell."""
    words = ["ssh", "-G", *(["-p", str(port)] if port else []), "--", f"{user}@{address}" if user else address]
    try:
        done = subprocess.run(  # noqa: S603
            words, capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL, env=environment()
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.decode("utf-8", "replace").lower().splitlines()


class _Work:
    """A process under way: its output is read, and its input written, while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], data: Iterable[bytes] | None, most: int) -> None:
        self._process = process
        self._most = most
        self.out = bytearray()
        self.err = bytearray()
        self.is_too_long = False
        self._threads = [self._thread(self._read), self._thread(self._complain)]
        if data is not None:
            self._thread(lambda: self._write(data))

    def wait(self, timeout: float) -> bool:
        """Whether it ended in time."""
        until = time.monotonic() + timeout
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.is_too_long
        for thread in () if self.is_too_long else self._threads:
            # Something that ssh started (a ProxyCommand) may hold the pipe longer than ssh lives.
            thread.join(max(1.0, min(5.0, until - time.monotonic())))
        return True

    def close(self) -> None:
        """Ends what still runs."""
        end(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            _close(stream)

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _read(self) -> None:
        stream = self._process.stdout
        with contextlib.suppress(OSError, ValueError):
            while stream and (chunk := os.read(stream.fileno(), 65_536)):
                self.out += chunk
                if len(self.out) > self._most:
                    self.is_too_long = True
                    self._process.kill()
                    return

    def _complain(self) -> None:
        stream = self._process.stderr
        with contextlib.suppress(OSError, ValueError):
            while stream and (chunk := os.read(stream.fileno(), 65_536)):
                self.err += chunk
                del self.err[:-STDERR]

    def _write(self, data: Iterable[bytes]) -> None:
        stream = self._process.stdin
        if stream is None:
            return
        with contextlib.suppress(OSError, ValueError):
            for chunk in data:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(stream.fileno(), rest) :]
        _close(stream)


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.close()
