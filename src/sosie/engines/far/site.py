"""A machine that is to draw, by its address."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sosie.core.errors import UsageError
from sosie.machines.ssh import Host, parse_host
from sosie.machines.ssh.steady import Patience

INNER = "diffusers"
PYTHON = re.compile(r"/[\w./+-]{1,300}")
HINT = "give it as in --engine ssh:root@203.0.113.7:40022"


@dataclass(frozen=True)
class Site:
    """A machine that draws with `engine`.

    `python` is an interpreter there that has what Sosie needs; empty: one is made. The ids of the plans that it drew
    are added to the file `drawn`, a line each.
    """

    host: Host
    python: str = ""
    patience: Patience = field(default_factory=Patience)
    engine: str = INNER
    drawn: Path | None = None


def read_site(text: str) -> Site:
    """The machine of `USER@HOST:PORT`, or `//USER@HOST:PORT`, with `?python=/PATH`. Raises `UsageError`."""
    where, _, query = text.removeprefix("//").partition("?")
    python = query.removeprefix("python=") if query else ""
    if query and (not query.startswith("python=") or not PYTHON.fullmatch(python)):
        raise UsageError("an address for ssh takes ?python=/ABSOLUTE/PATH and nothing else", HINT)
    return Site(parse_host(f"ssh://{where}"), python)
