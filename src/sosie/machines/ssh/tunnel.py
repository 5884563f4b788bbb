"""A tunnel to a port of a machine, which is opened anew whenever its line breaks."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Self

from sosie.machines.ssh.command import check_login
from sosie.machines.ssh.connection import Forward, PortTakenError, SshConnection, control_path
from sosie.machines.ssh.host import Host
from sosie.machines.ssh.trouble import SshError

PORTS = 4
"""So many local ports are tried, if others take the one that was free a moment ago."""


@dataclass(frozen=True)
class Pace:
    """Seconds: `first` before a broken line is tried again, doubled up to `longest`; `opening` bounds one try.

    A line that lived for `longest` starts the count anew.
    """

    first: float = 0.5
    longest: float = 30.0
    opening: float = 30.0


class Tunnel:
    """127.0.0.1:`port` here is 127.0.0.1:`remote` there, from the constructor on until `close`.

    The local port stays the same when the line breaks and comes back. A changed host key or a refused login ends
    the attempts: then, and while there is no line, `trouble` says why.
    """

    def __init__(self, host: Host, remote: int = 8188, pace: Pace | None = None) -> None:
        """Raises `SshError` if the first try fails."""
        self.host = replace(host, control=control_path())
        self.remote = remote
        self.breaks = 0
        """How often the line broke."""
        self.trouble: SshError | None = None
        self._pace = pace or Pace()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._refusals = 0
        for attempt in range(PORTS):
            self.port = _free_port()
            try:
                self._connection = self._open()
                break
            except PortTakenError:
                if attempt == PORTS - 1:
                    raise
        self.new_key = self._connection.new_key
        """The host key that was taken at this first contact, or empty."""
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_up(self) -> bool:
        """Whether there is a line now."""
        return self._connection.is_alive

    @property
    def refusals(self) -> int:
        """How often nothing listened at the far end."""
        return self._refusals + self._connection.refusals

    def check(self) -> SshError | None:
        """Why a new login would fail, or None: an open line lives on when a key is taken away, a new one would not."""
        try:
            check_login(self.host)
        except SshError as error:
            return error
        return None

    def close(self) -> None:
        """Ends the line and the attempts to have one."""
        self._closed.set()
        with self._lock:
            self._connection.close()
        self._keeper.join(5.0)

    def _open(self) -> SshConnection:
        return SshConnection(self.host, Forward(self.port, self.remote), self._pace.opening, self._closed)

    def _keep(self) -> None:
        """Waits for the line to break, and opens it anew; the pauses grow while that does not help."""
        pause = self._pace.first
        while True:
            opened = time.monotonic()
            self._connection.wait()
            if self._closed.is_set():
                return
            # Before the next one is opened: both have the same socket, which closing removes.
            self._connection.close()
            self.breaks += 1
            if time.monotonic() - opened > self._pace.longest:
                pause = self._pace.first
            while not self._closed.wait(pause):
                pause = min(2 * pause, self._pace.longest)
                if self._reopen():
                    break
                if self.trouble is not None and self.trouble.is_final:
                    return

    def _reopen(self) -> bool:
        try:
            connection = self._open()
        except SshError as error:
            self.trouble = error
            return False
        with self._lock:
            self._refusals += self._connection.refusals
            self._connection = connection
            if self._closed.is_set():
                connection.close()
        self.trouble = None
        return True


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
