"""A machine that is reached by ssh, and its address, which holds no secret."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sosie.core.errors import UsageError

USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,253}|[0-9a-f:.]{2,45}")
"""A name, an alias of ssh's configuration, or an IPv6 address; none begins with '-', which ssh takes for an option."""

HINT = "give it as in ssh://root@203.0.113.7:40022"


@dataclass(frozen=True)
class Host:
    """Where ssh goes to. An empty `user`, `port` 0 and no `key` leave it to ssh's configuration and agent.

    `key` is the file of a private key. `known_hosts` is where host keys are kept, if not where ssh keeps them.
    `control` is the socket of an open `Connection` that commands share; without it each makes one of its own.
    """

    address: str
    user: str = ""
    port: int = 0
    key: Path | None = None
    known_hosts: Path | None = None
    control: Path | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not ADDRESS.fullmatch(self.address):
            raise UsageError(f"{self.address[:80]!a} is no name or address of a machine", HINT)
        if self.user and not USER.fullmatch(self.user):
            raise UsageError(f"{self.user[:80]!a} is no name of a user", HINT)
        if not 0 <= self.port < 2**16:
            raise UsageError(f"{self.port} is no port; expected 1 to 65535", HINT)

    @property
    def name(self) -> str:
        """`address:port` for messages, without the user."""
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{shown}:{self.port}" if self.port else shown

    @property
    def destination(self) -> str:
        """As ssh takes it, after `--`."""
        return f"{self.user}@{self.address}" if self.user else self.address


def parse_host(url: str) -> Host:
    """The machine of `ssh://USER@HOST:PORT`; user and port may be left out.

    Raises `UsageError` for anything else, a password above all, which no message repeats.
    """
    shown = re.sub(r"//[^/@]*@", "//...@", url)[:80]
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.password is not None:
        raise UsageError(f"'{shown}' holds a password, which addresses must not", "log in with a key: ssh-copy-id")
    if parts.scheme != "ssh" or not parts.hostname or port in (-1, 0) or parts.query or parts.fragment:
        raise UsageError(f"'{shown}' is no address for ssh", HINT)
    if parts.path not in ("", "/"):
        raise UsageError(f"'{shown}' names a folder; only a machine was expected", HINT)
    # urlsplit writes names in small letters, and an alias of ssh's configuration may have large ones.
    typed = parts.netloc.rpartition("@")[2]
    address = parts.hostname if typed.startswith("[") else typed.partition(":")[0]
    return Host(address, parts.username or "", port or 0)
