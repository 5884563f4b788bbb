"""The engine whose models stay loaded between commands: a client of the workspace's resident worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core import Finding, Plan, Progress, Render
from sosie.core.errors import EngineError, LostError, UsageError
from sosie.core.feed import feed_of
from sosie.core.schema import from_table, to_table
from sosie.engines.resident_protocol import (
    Door,
    Role,
    Status,
    make_folder,
    read_door,
    read_error,
    read_findings,
    read_progress,
    receive,
    receive_render,
    role_digest,
    send,
    worker_cards,
)
from sosie.files import whole
from sosie.machines.cards import only
from sosie.machines.variables import needed
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.engines.resident_protocol import Link

MODULE = "sosie.api.resident"
BUSY = 75
"""The exit code of a worker that found another one in its place."""

MAX_MINUTES = 24 * 60
BATCH = 16
"""Plans of one call: after them it is another command's turn."""

START_SECONDS = 120.0
REPLACED = 5
"""How often in one call a worker may turn out to be of no use, before two commands are said to be at odds."""

LOG_BYTES = 1 << 20


class _LostError(Exception):
    """The worker is gone without a word."""


class _ReplacedError(Exception):
    """The worker is not the right one any more, or gives up its place."""


class ResidentEngine:
    """Keeps the Engine protocol. What it does is done by a process of its own, which outlives it by `minutes`.

    With 0 minutes it ends when the last who used it has closed.

    That process is started at the first call, and replaced where it is of another version, has other
    settings or has read other files. `files` maps what the engine reads, by name, to where it is. With `watched` it
    makes previews.
    """

    def __init__(
        self, workspace: Workspace, role: Role, files: Mapping[str, Path], minutes: float, watched: bool = False
    ) -> None:
        if not 0 <= minutes <= MAX_MINUTES:
            raise UsageError(f"--keep-loaded {minutes:g} is out of range: 0 to {MAX_MINUTES} minutes")
        self._workspace = workspace
        self._role = role
        paths = {name: str(path.absolute()) for name, path in files.items()}
        self._common = {"minutes": minutes, "files": paths, "watched": watched}
        self._link: Link | None = None
        self._name = ""

    @property
    def name(self) -> str:
        """The name of the engine that the worker holds."""
        if not self._name:
            self._name = str(self._ask("name", ())["name"])
        return self._name

    def check(self, plan: Plan) -> list[Finding]:
        """What the worker's engine has to say before it renders."""
        return list(read_findings(self._ask("check", (plan,))["findings"]))

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan, in order. A worker that dies is started again once a call of `BATCH` plans."""
        feed = feed_of(plans)
        for first in feed:
            for event in self._call("run", [first, *islice(iter(feed.take, None), BATCH - 1)]):
                if not isinstance(event, dict):
                    yield event

    def close(self) -> None:
        """Lets go of the worker, which stops what it still does for this engine, and keeps its models."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _ask(self, do: str, plans: Sequence[Plan]) -> dict[str, Any]:
        return next(answer for answer in list(self._call(do, plans)) if isinstance(answer, dict))

    def _call(self, do: str, plans: Sequence[Plan]) -> Generator[Progress | Render | dict[str, Any]]:
        """The answers to one call. A second try asks for what is still to be rendered."""
        left = list(plans)
        lost = replaced = 0
        while True:
            try:
                for answer in self._answers(do, tuple(left)):
                    if isinstance(answer, Render):
                        left.remove(answer.plan)
                    yield answer
                return
            except _ReplacedError:
                replaced += 1
                if replaced == REPLACED:
                    raise EngineError(
                        f"the worker was replaced {REPLACED} times by commands with other settings or files",
                        "run one after the other, or leave --keep-loaded out",
                    ) from None
            except _LostError:
                lost += 1
                self._name = ""
                if lost == 2:
                    during = (
                        f"while it rendered plan {left[0].id[:12]}" if do == "run" and left else "before it answered"
                    )
                    raise LostError(
                        f"the worker that holds the models ended {during}, twice",
                        f"look at {log_file(self._workspace, self._role.card)}, or leave --keep-loaded out",
                    ) from None
            except LostError:
                self._name = ""
                raise

    def _answers(self, do: str, plans: tuple[Plan, ...]) -> Generator[Progress | Render | dict[str, Any]]:
        link = self._link = self._link or hire(self._workspace, self._role)
        complete = False
        try:
            send(link, {"do": do, "plans": [plan.to_json() for plan in plans], **self._common})
            while not complete:
                answer = receive(link)
                complete = answer["say"] in ("name", "findings", "done", "error")
                yield _understood(link, answer, plans)
        except (EOFError, OSError, KeyError, IndexError) as error:
            raise _LostError from error
        finally:
            if not complete:
                self.close()


def hire(workspace: Workspace, role: Role) -> Link:
    """A connection to the workspace's worker in this role: the one there is, a new one, or one in another's place.

    Raises `EngineError` if none can be had.
    """
    wanted = role_digest(role, workspace.config)
    folder, log = make_folder(workspace.state, role.card), log_file(workspace, role.card)
    until = time.monotonic() + START_SECONDS
    process: subprocess.Popen[bytes] | None = None
    while True:
        if (found := reach(workspace, role.card)) is not None:
            door, link = found
            _end_spare(process, door)
            if door.role == wanted:
                return link
            retire(link)
            process = None
        code = BUSY if process is None else process.poll()
        if code in (BUSY, 0):  # there was another, or it was retired before it was found
            process = _start(workspace, role, wanted)
        elif code is not None:
            raise LostError(f"the worker ended at its start (exit code {code})", f"look at {log}")
        if time.monotonic() > until:
            raise LostError(
                f"no worker answered within {START_SECONDS:.0f} s (its folder is {folder})",
                f"look at {log}, or leave --keep-loaded out",
            )
        time.sleep(0.05)


def _end_spare(process: subprocess.Popen[bytes] | None, door: Door) -> None:
    """Ends a worker that was started here while another came first: it would take that one's place when it ends."""
    if process is not None and process.pid != door.pid and process.poll() is None:
        process.kill()
        process.wait()


def reach(workspace: Workspace, card: str = "") -> tuple[Door, Link] | None:
    """The workspace's worker of a card, if one is there and answers to the key in its door file."""
    door = read_door(workspace.state, card)
    if door is None:
        return None
    try:
        return door, Client(door.address, authkey=bytes.fromhex(door.key))
    except (OSError, EOFError, ValueError, AssertionError, AuthenticationError):
        return None


def retire(link: Link) -> None:
    """Has a worker end when it has done what others wait for; returns when it has ended."""
    _say_last(link, "retire")


def dismiss(workspace: Workspace, card: str = "") -> bool:
    """Has the worker end now, whatever it does; False if there is none. Returns when it has ended."""
    found = reach(workspace, card)
    if found is not None:
        _say_last(found[1], "stop")
    return found is not None


def status(workspace: Workspace, card: str = "") -> Status | None:
    """What the workspace's worker of a card says of itself; None if there is none."""
    found = reach(workspace, card)
    if found is None:
        return None
    with found[1] as link:
        try:
            send(link, {"do": "status"})
            return from_table(Status, receive(link)["status"], "worker")
        except (OSError, EOFError, KeyError):
            return None


def all_status(workspace: Workspace) -> tuple[Status, ...]:
    """What the workspace's workers say of themselves, in the order of their cards."""
    found = (status(workspace, card) for card in worker_cards(workspace.state))
    return tuple(one for one in found if one is not None)


def dismiss_all(workspace: Workspace) -> int:
    """Has all workers of the workspace end now; how many there were."""
    return sum(dismiss(workspace, card) for card in worker_cards(workspace.state))


def log_file(workspace: Workspace, card: str = "") -> Path:
    """What the worker of a card and the libraries in it print."""
    return workspace.state / "logs" / (f"worker-{card}.log" if card else "worker.log")


def _start(workspace: Workspace, role: Role, wanted: str) -> subprocess.Popen[bytes]:
    """A worker of its own session: what the terminal is told to end does not end it."""
    log = log_file(workspace, role.card)
    whole.make_folder(log.parent)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        if out.tell() > LOG_BYTES:
            out.truncate(0)
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", MODULE, json.dumps(to_table(role)), wanted],
            env=needed(os.environ) | (only(role.card, os.environ) if role.card else {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            creationflags=0x208 if os.name == "nt" else 0,  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
        )


def _say_last(link: Link, do: str) -> None:
    with link:
        try:
            send(link, {"do": do})
            while True:
                receive(link)
        except (OSError, EOFError):
            return


def _understood(link: Link, answer: dict[str, Any], plans: tuple[Plan, ...]) -> Progress | Render | dict[str, Any]:
    """What an answer means; an error that was told is raised here."""
    index = int(answer.get("plan", 0))
    match answer["say"]:
        case "progress":
            return read_progress(answer)
        case "render":
            return receive_render(link, answer, plans[index])
        case "error":
            raise read_error(answer)
        case "stale":
            retire(link)
            raise _ReplacedError
        case "retired":
            raise _ReplacedError
        case "stopped":
            raise EngineError("the worker was stopped while it worked for this command", "run the same command again")
        case _:
            return answer
