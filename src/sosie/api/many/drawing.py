"""`worker draw`: shards of a manifest drawn by an engine, or by several machines that each take their own."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sosie.api.faces import SessionFaces
from sosie.core import Engine, Event, Finding, Note, Plan, Progress, Render, Result
from sosie.core.errors import CheckFailedError, EngineError, LostError, NotFoundError, UsageError
from sosie.core.finding import has_errors
from sosie.engines import DEFAULT, scheme_of
from sosie.engines.scheme import Supplies
from sosie.engines.shards.claims import Claims
from sosie.engines.shards.manifest import Manifest
from sosie.engines.shards.pull import Part, Waits, pull
from sosie.families.contract.draws import Settings
from sosie.workspace.bill import resolve_one
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

GLANCE = 2.0
"""Seconds between two looks at whether a shard has become free, or has come."""

EACH_ALONE = ("ssh", "pod")
"""Engines whose machines, named with commas, take shards of their own."""


@dataclass(frozen=True)
class ShardOrder:
    """What is drawn of the manifest in `folder`, by which engine. `idle` are seconds that more shards are waited for.

    With `again`, plans that ended with an error are drawn anew.
    """

    folder: Path
    engine: str = DEFAULT
    part: Part = field(default_factory=Part)
    idle: float = 0.0
    again: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class ShardsDone(Result):
    """The end: how many plans the manifest has, and of how many something became, by whomever."""

    plans: int
    done: int


def draw_many(session: Session, order: ShardOrder) -> Generator[Event]:
    """Draws until nothing of the manifest is left that others do not draw, and then until that is done.

    Raises `LostError` when every machine that draws for this command is gone.
    """
    manifest = Manifest(order.folder)
    scheme, _, rest = order.engine.partition(":")
    if scheme == "shards":
        raise UsageError("a manifest is drawn by engines that draw", "sosie worker draw FOLDER --engine diffusers")
    if order.again and manifest.again():
        Claims(manifest.folder / "claims", "again").reopen(manifest.shards())
    one_each = scheme in EACH_ALONE and "," in rest
    addresses = [f"{scheme}:{one}" for one in rest.split(",")] if one_each else [order.engine]
    if len(addresses) == 1:
        yield from _pulled(session, order, addresses[0])
    else:
        yield from _by_several(session, order, addresses)
    yield ShardsDone(*manifest.counts())


def _pulled(session: Session, order: ShardOrder, address: str) -> Generator[Event]:
    """What one engine does, until nothing is left and `idle` has passed."""
    manifest = Manifest(order.folder)
    claims = Claims(manifest.folder / "claims", f"{socket.gethostname()} {os.getpid()} {address}")
    with closing(Equipped(session, manifest, address, order.settings)) as engine:
        yield from _checked(manifest, engine, order.part)
        until = time.monotonic() + order.idle
        while True:
            for event in pull(manifest, claims, engine, order.part):
                until = time.monotonic() + order.idle
                yield event
                if isinstance(event, Waits):
                    time.sleep(GLANCE)
            if time.monotonic() >= until:
                return
            time.sleep(GLANCE)


def _checked(manifest: Manifest, engine: Engine, part: Part) -> Generator[Finding]:
    """What is found of the first plan that is left. Raises `CheckFailedError` for an error."""
    first = next((plan for shard in part.shards(manifest) for plan in manifest.left(shard)[:1]), None)
    findings = engine.check(first) if first is not None else []
    yield from findings
    if has_errors(findings):
        raise CheckFailedError(f"{engine.name} draws nothing: a check found an error")


class Equipped:
    """Keeps the Engine protocol: an engine that is given what each plan uses before it draws it."""

    def __init__(self, session: Session, manifest: Manifest, address: str, settings: Settings) -> None:
        self._manifest = manifest
        self._address = address
        self._settings = settings
        self._session = session
        self._own = open_workspace(manifest.folder)
        self._files: dict[str, Path] = {}
        self._digests: dict[str, str] = {}
        self._engine: Engine | None = None

    @property
    def name(self) -> str:
        """The engine's."""
        return self._engine.name if self._engine is not None else self._address

    def check(self, plan: Plan) -> list[Finding]:
        """What the engine says."""
        return self._for(plan).check(plan)

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Renders every plan. Raises `NotFoundError` for a file that is not here, or is another."""
        wanted = list(plans)
        engines = [self._for(plan) for plan in wanted]
        if engines:
            yield from engines[0].run(wanted)

    def close(self) -> None:
        """Closes the engine."""
        if self._engine is not None:
            self._engine.close()

    def _for(self, plan: Plan) -> Engine:
        if scheme_of(self._address).reads == "references":
            self._files |= self._references(plan)
        else:
            for asset in plan.assets:
                self._learn(asset.name, asset.sha256)
        if self._engine is None:
            place = self._place(plan)
            faces = SessionFaces(self._session, self._files)
            supplies = Supplies(self._files, faces, self._manifest.source, self._settings, root=place.root)
            self._engine = scheme_of(self._address).open(self._address, supplies)
        return self._engine

    def _place(self, plan: Plan) -> Workspace:
        """The workspace that has the character: this machine's own, where it does, for it knows pods too."""
        own = self._session.workspace
        toml = own.characters / plan.character.name / "character.toml"
        return own if toml.is_file() else self._own

    def _references(self, plan: Plan) -> dict[str, Path]:
        folder = self._own.character_folder(plan.character.name)
        return {one.sha256: folder / one.file for one in plan.character.references}

    def _learn(self, name: str, sha256: str) -> None:
        if self._digests.get(name) == sha256:
            return
        if name in self._digests:
            raise EngineError(f"'{name}' means two files in this manifest", "draw them by two commands")
        for workspace in (self._own, self._session.workspace):
            found = resolve_one(workspace, name)
            if found.path is not None and (not sha256 or found.sha256 == sha256):
                self._files[name], self._digests[name] = found.path, sha256
                return
        hint = f"sosie model fetch or add it here, or put it into {self._manifest.folder / 'models'}"
        raise NotFoundError(f"'{name}' with SHA-256 {sha256[:16]} is not on this machine", hint)


@dataclass(frozen=True, eq=False)
class _Ended:
    """A machine's thread has ended, with an error or with nothing left."""

    address: str
    error: BaseException | None = None


def _by_several(session: Session, order: ShardOrder, addresses: list[str]) -> Generator[Event]:
    """Each machine in a thread, with claims of its own; one that is lost leaves its shard to the others."""
    news: queue.SimpleQueue[Event | _Ended] = queue.SimpleQueue()
    over = threading.Event()
    threads = [
        threading.Thread(target=_serve, args=(lambda one=one: _pulled(session, order, one), one, news, over))
        for one in addresses
    ]
    lost: list[LostError | CheckFailedError] = []
    try:
        for thread in threads:
            thread.daemon = True
            thread.start()
        left = len(threads)
        while left:
            with suppress(queue.Empty):
                said = news.get(timeout=GLANCE)
                if not isinstance(said, _Ended):
                    yield said
                    continue
                left -= 1
                if isinstance(said.error, LostError | CheckFailedError):
                    lost.append(said.error)
                    yield Note(f"{said.address} is lost: {said.error.message}; the others draw what it left")
                elif said.error is not None:
                    raise said.error
        if len(lost) == len(threads):
            raise lost[-1]
    finally:
        over.set()
        for thread in threads:
            thread.join(10.0)


def _serve(
    work: Callable[[], Generator[Event]], address: str, news: queue.SimpleQueue[Event | _Ended], over: threading.Event
) -> None:
    try:
        with closing(work()) as events:
            for event in events:
                if over.is_set():
                    return
                news.put(event)
        news.put(_Ended(address))
    except BaseException as error:
        news.put(_Ended(address, error))
