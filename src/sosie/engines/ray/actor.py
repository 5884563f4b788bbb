"""What runs on a host, for one card: an engine, asked by the driver plan by plan.

It is imported by Ray in a process of its own, whatever version of Sosie that host has; so what it is told and answers
are plain tables, the first of them with the version. Pixels go to a folder of the driver's if that can be seen there.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import socket
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from sosie.machines.variables import keep_for_ray

HOST_MODULE = "sosie.api.workers.ray_host"
"""What opens an engine; it stands above this room, and only the host's process needs it."""


class CardActor:
    """One card of a host. `order` is JSON: `engines.ray.engine.Order`.

    `variables` are the process's, which Ray's node gave it: what rendering has no use for is taken away first.
    """

    def __init__(self, order: str, variables: MutableMapping[str, str] = os.environ) -> None:
        keep_for_ray(variables)
        self._order = json.loads(order)
        self._host: Any = None

    def hello(self) -> dict[str, Any]:
        """Who this is: Sosie's version, Python's, the host's name, the process and the card."""
        from sosie import __version__

        return {
            "version": __version__,
            "python": platform.python_version(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "card": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }

    def ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers to one request (`engines.ray.engine`), much like those of the resident worker."""
        try:
            if self._host is None:
                self._host = importlib.import_module(HOST_MODULE).Host(self._order)
            yield from self._host.answers(request)
        except Exception as error:
            yield importlib.import_module(HOST_MODULE).answer_of(error)


def seen(folder: str, token: str) -> bool:
    """Whether this process sees the very folder that the driver made: the token is in it."""
    try:
        return (Path(folder) / "token").read_text(encoding="ascii") == token
    except (OSError, ValueError):
        return False
