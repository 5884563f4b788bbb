"""The resident worker: a process that holds an engine, and its models, between commands.

`python -m sosie.api.resident ROLE DIGEST`, started by `engines.resident`. One call is worked on at a time, in
the order in which they come, on the main thread; every connection is read on a thread of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import AuthenticationError
from multiprocessing.connection import Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie import __version__
from sosie.api.engines import make_engine
from sosie.core import Engine, Plan, Progress
from sosie.core.errors import EngineError, LostError, SosieError
from sosie.core.schema import from_table, to_table
from sosie.engines import resident
from sosie.engines.resident_protocol import (
    DOOR,
    Door,
    Role,
    Status,
    error_table,
    listen,
    make_folder,
    progress_table,
    receive,
    send,
    send_render,
    write_door,
)
from sosie.files.lock import HeldError, held
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from sosie.engines.resident_protocol import Link

GLANCE = 0.5
"""Seconds between two looks at the clock and the workspace, without work."""

FIRST_SECONDS = 120.0
"""How long a new worker waits for its first call."""

GRACE = 10.0
"""Seconds that an engine has for coming to an end when the worker is stopped."""


class GoneError(Exception):
    """The command that asked is gone."""


@dataclass(frozen=True, eq=False)
class Call:
    """What one command asks of the engine, and the event that says that it was answered."""

    link: Link
    request: Mapping[str, Any]
    answered: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, eq=False)
class Held:
    """An engine, what it is called, and the table in which it looks files up: filled with what each call names.

    `card` is that of the worker's role; `watched` is set while a call is worked on whose caller wants previews.
    """

    name: str
    engine: Engine
    files: dict[str, Path]
    card: str = ""
    watched: threading.Event = field(default_factory=threading.Event)


class Resident:
    """Serves an engine to those who come through the door, until its time is over or `wanted` says no."""

    def __init__(self, held: Held, listener: Listener, wanted: Callable[[], bool]) -> None:
        self._held = held
        self._listener = listener
        self._wanted = wanted
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._guests: set[Link] = set()
        self._seen: dict[str, str] = {}
        self._keep = FIRST_SECONDS
        self._until = time.monotonic() + self._keep
        self._working = False
        self._retired = False
        self._served = 0
        self.stopping = threading.Event()

    def serve(self, door: Door) -> None:
        """Answers calls, and returns when the worker is to end; the engine is not closed."""
        threading.Thread(target=self._accept, args=(bytes.fromhex(door.key),), daemon=True).start()
        while not self._is_over():
            with contextlib.suppress(queue.Empty):
                self._answer(self._calls.get(timeout=GLANCE))

    def refuse(self) -> None:
        """Tells those who still wait that they are to ask another worker."""
        with contextlib.suppress(queue.Empty):
            while True:
                call = self._calls.get_nowait()
                with contextlib.suppress(OSError):
                    send(call.link, {"say": "stopped" if self.stopping.is_set() else "retired"})

    def _is_over(self) -> bool:
        late = time.monotonic() > self._until and self._calls.empty() and not self._guests
        return late or self._retired or self.stopping.is_set() or not self._wanted()

    def _accept(self, key: bytes) -> None:
        while True:
            try:
                link = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(link, key), daemon=True).start()

    def _attend(self, link: Link, key: bytes) -> None:
        """One connection: who has not the key, or says what is not understood, is left."""
        left = (EOFError, OSError, AuthenticationError, AssertionError)
        with contextlib.suppress(*left), link, contextlib.ExitStack() as stack:
            deliver_challenge(link, key)
            answer_challenge(link, key)
            stack.callback(self._guests.discard, link)
            while True:
                request = receive(link)
                match request.get("do"):
                    case "status":
                        send(link, {"say": "status", "status": to_table(self._status())})
                    case "stop":
                        self.stopping.set()
                    case "name" | "check" | "run" | "retire" as word:
                        if word != "retire":
                            self._guests.add(link)
                        call = Call(link, request)
                        self._calls.put(call)
                        call.answered.wait()
                    case _:
                        return

    def _status(self) -> Status:
        left = None if self._working else max(0.0, self._until - time.monotonic())
        return Status(
            os.getpid(), __version__, self._held.name, self._served, self._calls.qsize(), left, self._held.card
        )

    def _answer(self, call: Call) -> None:
        """Works on one call. Whatever goes wrong is the answer, and the worker lives on."""
        self._working = True
        try:
            with _told(call.link):
                self._work(call.link, call.request)
        except LostError:
            self._retired = True  # nothing is drawn on that card any more in this process
        finally:
            self._until = time.monotonic() + self._keep
            self._working = False
            call.answered.set()

    def _work(self, link: Link, request: Mapping[str, Any]) -> None:
        if request["do"] == "retire":
            self._retired = True
            return
        self._keep = 60 * float(request["minutes"])
        (self._held.watched.set if request.get("watched") else self._held.watched.clear)()
        plans = [Plan.from_json(table) for table in request["plans"]]
        files = {str(name): Path(path) for name, path in request["files"].items()}
        if not self._learn(files, plans):
            _tell(link, {"say": "stale"})
            return
        match request["do"]:
            case "name":
                _tell(link, {"say": "name", "name": self._held.engine.name})
            case "check":
                _tell(link, {"say": "findings", "findings": to_table(tuple(self._held.engine.check(plans[0])))})
            case _:
                self._run(link, plans)

    def _learn(self, files: Mapping[str, Path], plans: Sequence[Plan]) -> bool:
        """Takes up where things are; False if what the engine may have read has changed since."""
        facts: dict[str, str] = {}
        for asset in (asset for plan in plans for asset in plan.assets):
            path = files.get(asset.name, Path(asset.name))
            facts |= {asset.name: f"{path} {asset.sha256}", str(path): asset.sha256}
        if any(self._seen.get(name, fact) != fact for name, fact in facts.items()):
            return False
        self._seen |= facts
        self._held.files.clear()
        self._held.files.update(files)
        return True

    def _run(self, link: Link, plans: Sequence[Plan]) -> None:
        places = {plan.id: index for index, plan in enumerate(plans)}
        events: Any = self._held.engine.run(plans)
        with contextlib.closing(events):
            for event in events:
                if self.stopping.is_set():
                    _tell(link, {"say": "stopped"})
                    return
                if isinstance(event, Progress):
                    _tell(link, progress_table(event))
                else:
                    self._served += 1
                    with _or_gone():
                        send_render(link, places[event.plan.id], event)
        _tell(link, {"say": "done"})


@contextlib.contextmanager
def _told(link: Link) -> Generator[None]:
    """Makes an answer of what goes wrong in the block."""
    try:
        yield
    except GoneError:
        _log("the command went away; what it asked for was stopped")
    except Exception as error:
        told = error if isinstance(error, SosieError) else None
        if told is None:
            _log(traceback.format_exc())
            told = EngineError(f"the engine failed: {type(error).__name__}: {error}", "look at .sosie/logs/worker.log")
        with contextlib.suppress(OSError):
            send(link, error_table(told))
        if isinstance(told, LostError):
            raise told from error


@contextlib.contextmanager
def _or_gone() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise GoneError from error


def _tell(link: Link, table: Mapping[str, Any]) -> None:
    with _or_gone():
        send(link, table)


def main() -> None:
    """The worker of one role. Exit code 75: there is one already in this workspace."""
    role = from_table(Role, json.loads(sys.argv[1]), "role")
    workspace = open_workspace(Path(role.root))
    folder = make_folder(workspace.state, role.card)
    with _only_one(folder / "lock"), Session(workspace) as session:
        files: dict[str, Path] = {}
        watched = threading.Event()
        engine = make_engine(session, role.engine, files, role.settings, watched=watched.is_set)
        listener, address = listen(folder)
        door = write_door(folder, address, sys.argv[2])
        mine = (folder / DOOR).stat()
        worker = Resident(
            Held(role.engine, engine, files, role.card, watched), listener, lambda: _is_there(folder / DOOR, mine)
        )
        signal.signal(signal.SIGTERM, lambda _signal, _frame: worker.stopping.set())
        threading.Thread(target=_end_in_time, args=(worker.stopping,), daemon=True).start()
        _log(f"worker {os.getpid()} of Sosie {__version__} began, engine {role.engine}")
        try:
            worker.serve(door)
        finally:
            if _is_there(folder / DOOR, mine):
                (folder / DOOR).unlink()
            worker.refuse()
            listener.close()
            with contextlib.suppress(OSError):
                Path(address).parent.rmdir()  # one of its own; the workspace's is not empty
            engine.close()
            _log(f"worker {os.getpid()} ended")


@contextlib.contextmanager
def _only_one(lock: Path) -> Generator[None]:
    """Holds the workspace's worker lock, which goes with this process, or ends it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(lock))
        except HeldError:
            sys.exit(resident.BUSY)
        yield


def _is_there(path: Path, mine: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), mine)
    except OSError:
        return False


def _end_in_time(stopping: threading.Event) -> None:
    """Ends the process when it was told to stop and an engine does not listen."""
    stopping.wait()
    time.sleep(GRACE)
    os._exit(1)


def _log(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n")
    sys.stderr.flush()


def worker_status(workspace: Workspace) -> tuple[Status, ...]:
    """What the workspace's workers say of themselves: the one that sees all cards first, then one a card."""
    return resident.all_status(workspace)


def stop_worker(workspace: Workspace) -> int:
    """Ends the workspace's workers, whatever they do; how many there were."""
    return resident.dismiss_all(workspace)


def dismiss_idle(workspace: Workspace) -> int:
    """Ends the workspace's workers that nobody uses now; how many there were."""
    idle = [one.card for one in resident.all_status(workspace) if one.ends_in is not None]
    return sum(resident.dismiss(workspace, card) for card in idle)


if __name__ == "__main__":
    main()
