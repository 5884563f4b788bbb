"""The cluster: joined by its head's address and token, or started here for one run, for this user only.

Ray is not believed to keep a promise: who is lost is told from what it says, and who is gone for good is looked for,
as Ray ends a process that cannot reach its head for a minute.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sosie.core.errors import EngineError, LostError, MissingExtraError, UsageError
from sosie.machines.cards import installed_cards
from sosie.machines.variables import kept_for_ray

FLOOR = (2, 52)
"""The first version of Ray that a web page cannot reach (CVE-2025-62593), and the first with tokens."""

HERE = "127.0.0.1"
STORE_BYTES = 256 << 20
"""Of the object store of a cluster that is started here: images go round it."""

LOOKS = 3
"""So often in a row a head may not answer before it is thought to be gone."""

PAUSE = 2.0
"""Seconds between two looks at the head."""

TOKEN_FILE = Path("~/.ray/auth_token")


@dataclass(frozen=True)
class Slot:
    """One card of the cluster: its host's address, which of that host's cards it is, from 0, and the id of its node.

    Several nodes may share a host: its cards are counted on, so that each has a name of its own.
    """

    host: str
    number: int
    node: str

    def __str__(self) -> str:
        return f"card {self.number} of {self.host}"


def read_address(address: str) -> tuple[str, int] | None:
    """Host and port of `ray:HOST:PORT`; None for `ray`. Raises `UsageError` for anything else."""
    rest = address.partition(":")[2]
    if address == "ray":
        return None
    match = re.fullmatch(r"(\[[0-9a-fA-F:]{2,45}\]|[A-Za-z0-9._-]{1,253}):(\d{1,5})", rest)
    if match is None or not 0 < int(match[2]) < 65536:
        raise UsageError(
            f"engine '{address}' is not understood; expected ray:HOST:PORT, or ray for a cluster on this machine",
            "ray start --head prints the address; see docs/throughput.md",
        )
    return match[1].strip("[]"), int(match[2])


class Cluster:
    """A connection to a cluster, made at the first use. Only one of a process is open at a time: Ray knows no more."""

    def __init__(self, address: str) -> None:
        self._place = read_address(address)
        self._lock = threading.Lock()
        self._looked = 0.0
        self._missed = 0

    @cached_property
    def ray(self) -> Any:
        """The module, connected. Raises `MissingExtraError`, or `EngineError` for a cluster that cannot be joined."""
        with self._lock:
            return _connected(self._place)

    def slots(self) -> list[Slot]:
        """The cards of all hosts that are there now."""
        found: list[Slot] = []
        counted: Counter[str] = Counter()
        for node in self.ray.nodes():
            host, count = str(node["NodeManagerAddress"]), int(node["Resources"].get("GPU", 0))
            for _ in range(count if node["Alive"] else 0):
                found.append(Slot(host, counted[host], str(node["NodeID"])))
                counted[host] += 1
        if not found:
            raise EngineError(
                "no host of the Ray cluster has a card", "ray start --address=HOST:PORT --num-gpus=1 there"
            )
        return found

    def begin(self, slot: Slot, kind: type, order: str) -> Any:
        """A process of that class on a free card, of the slot's host if it has one; nothing is waited for."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # pyright: ignore

        place: Any = NodeAffinitySchedulingStrategy(node_id=slot.node, soft=True)
        terms = {"num_gpus": 1, "num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}
        return self.ray.remote(**terms)(kind).options(scheduling_strategy=place).remote(order)

    def expect_free(self, seconds: float) -> None:
        """Waits for a card that nobody uses. Raises `LostError` when none comes, `EngineError` without a head."""
        until = time.monotonic() + seconds
        while self.ray.available_resources().get("GPU", 0) < 1:
            self.expect_head()
            if time.monotonic() > until:
                raise LostError("the cluster has no free card any more")
            time.sleep(0.2)

    def expect_head(self) -> None:
        """Looks whether the head answers, now and then. Raises `EngineError` when it does not, several times."""
        if self._place is None:
            return
        with self._lock:
            if time.monotonic() - self._looked < PAUSE:
                return
            self._looked = time.monotonic()
            self._missed = 0 if _answers(self._place) else self._missed + 1
            if self._missed >= LOOKS:
                self._leave_behind()
                raise EngineError(
                    f"Ray's head at {self._place[0]}:{self._place[1]} is gone",
                    "start it again; the same command then does what is left",
                )

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        if "ray" in self.__dict__ and self._missed < LOOKS:
            self.ray.shutdown()

    def _leave_behind(self) -> None:
        """Keeps Ray from waiting for a head that is gone when this process ends."""
        import atexit

        from ray._private import worker  # pyright: ignore

        atexit.unregister(worker.shutdown)  # pyright: ignore


def _connected(place: tuple[str, int] | None) -> Any:
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError(
            "engine 'ray' needs the package ray, which is not installed", 'pip install "sosie[ray]"'
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AUTH_MODE"] = "token"
    if place is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: beside judges, cards would wait
    elif not has_token(os.environ):
        raise UsageError(
            f"the Ray cluster at {place[0]}:{place[1]} is joined by its token, and none is here",
            f"write it to {TOKEN_FILE} (mode 600), or name its file in RAY_AUTH_TOKEN_PATH; see docs/throughput.md",
        )
    import ray  # pyright: ignore

    _expect_version(str(ray.__version__))
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    try:
        if place is None:
            cards = len(installed_cards()) or 1
            own: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": HERE, "num_gpus": cards}
            with kept_for_ray(os.environ):
                ray.init("local", object_store_memory=STORE_BYTES, **own, **quiet)  # pyright: ignore
        else:
            if not _answers(place):
                raise ConnectionError("nothing answers there")
            host = f"[{place[0]}]" if ":" in place[0] else place[0]
            ray.init(f"{host}:{place[1]}", **quiet)  # pyright: ignore
    except Exception as error:
        where = "on this machine" if place is None else f"at {place[0]}:{place[1]}"
        raise EngineError(f"the Ray cluster {where} cannot be used: {_first_line(error)}", _advice(error)) from None
    return ray


def has_token(variables: Mapping[str, str]) -> bool:
    """Whether a token is where Ray looks for it."""
    named = variables.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else TOKEN_FILE
    return bool(variables.get("RAY_AUTH_TOKEN")) or path.expanduser().is_file()


def _expect_version(version: str) -> None:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < FLOOR:
        floor = ".".join(map(str, FLOOR))
        raise EngineError(f"Ray {version} is installed; expected {floor} or newer", f'pip install "ray>={floor}"')


def _answers(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, timeout=PAUSE):
            return True
    except OSError:
        return False


def _first_line(error: Exception) -> str:
    """What Ray says, in a line; its messages have paragraphs, and may name the token's file but never its content."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _advice(error: Exception) -> str:
    text = str(error).lower()
    if "token" in text or "auth" in text:
        return "the token must be that of the head; see docs/throughput.md"
    if "version mismatch" in text:
        return "use the same Python and the same Ray on all hosts"
    return "is `ray start --head` running there, and may this machine reach it?"
