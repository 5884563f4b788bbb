"""Train several characters at once: one LoRA each, a process a card.

Every run is a process of its own that sees one card, checks, trains, judges, delivers and records as `train` does; what
it yields comes here by a pipe. Who ends this process ends them: a run that nobody listens to saves its state and stops.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sosie.api.training import train
from sosie.core import Event, Result
from sosie.core.errors import EngineError, SosieError
from sosie.engines.resident_protocol import error_table, read_error
from sosie.loop.training_job import TrainOrder
from sosie.machines.cards import Card, choose_cards, installed_cards, only
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess


@dataclass(frozen=True)
class Apart(Result):
    """Something that one of several runs yielded."""

    name: str
    event: Event


@dataclass(frozen=True)
class NotTrained(Result):
    """A run that ended with an error. The others go on."""

    name: str
    error: SosieError


def train_each(session: Session, orders: Sequence[TrainOrder], devices: str = "") -> Generator[Apart | NotTrained]:
    """Trains every order by itself: on each of the cards that `devices` names one at a time; without, one by one here.

    An order that ends with an error is told, and the rest is trained. Raises `UsageError` for a card that is not here.
    """
    if devices:
        yield from Runs(session.workspace.root, choose_cards(devices, installed_cards())).events(orders)
        return
    for order in orders:
        try:
            with closing(train(session, order)) as events:
                for event in events:
                    yield Apart(order.names[0], event)
        except SosieError as error:
            yield NotTrained(order.names[0], error)


@dataclass(frozen=True, eq=False)
class _Under:
    """A run under way."""

    name: str
    card: Card
    process: SpawnProcess


class Runs:
    """Runs under way, one a card, by the pipes that they speak through. Each is a process that calls `run`."""

    def __init__(self, root: Path, cards: Sequence[Card], run: Callable[..., None] | None = None) -> None:
        self._root = root
        self._run = run or train_on
        self._free = deque(cards)
        self._under: dict[Connection[Any, Any], _Under] = {}
        self._context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork

    def events(self, orders: Sequence[TrainOrder]) -> Generator[Apart | NotTrained]:
        """What all runs yield. At Ctrl-C each stops after its step, and says so; the second ends them at once."""
        waiting, interrupted = deque(orders), False
        try:
            while self._under or (waiting and not interrupted):
                try:
                    while waiting and self._free and not interrupted:
                        self._begin(waiting.popleft())
                    for link in wait(list(self._under)):
                        yield from self._read(link)  # pyright: ignore[reportArgumentType]
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    self._stop()
        finally:
            self._end()
        if interrupted:
            raise KeyboardInterrupt

    def _begin(self, order: TrainOrder) -> None:
        card = self._free.popleft()
        here, there = cast("tuple[Any, Any]", self._context.Pipe())  # Windows has a class of its own for pipes
        name = order.names[0]
        process = self._context.Process(
            target=self._run, args=(there, card.device, self._root, order), name=f"train {name}"
        )
        process.start()
        there.close()  # so that its end is seen here
        self._under[here] = _Under(name, card, process)

    def _read(self, link: Connection[Any, Any]) -> Generator[Apart | NotTrained]:
        """The next word of a run; its last one frees the card."""
        run = self._under[link]
        try:
            said: Event | dict[str, Any] | None = link.recv()
        except (EOFError, OSError):
            run.process.join()
            hint = f"sosie train {run.name} --resume, with the same recipe; a killed process mostly lacked memory"
            why = f"the training of '{run.name}' on {run.card} ended without a word (exit code {run.process.exitcode})"
            said = error_table(EngineError(why, hint))
        if said is not None and not isinstance(said, dict):
            yield Apart(run.name, said)
            return
        del self._under[link]
        link.close()
        run.process.join()
        self._free.append(run.card)
        if said is not None:
            yield NotTrained(run.name, read_error(said))

    def _end(self) -> None:
        """Ends what nobody listens to any more."""
        self._stop()
        for link, run in self._under.items():
            link.close()
            run.process.join()

    def _stop(self) -> None:
        """Has what is under way save its state and stop."""
        for run in self._under.values():
            run.process.terminate()


def train_on(link: Connection[Any, Any], device: str, root: Path, order: TrainOrder) -> None:
    """A run's process. A pipe that nobody reads ends it, as Ctrl-C does."""
    os.environ |= only(device, os.environ)
    if sys.platform != "win32":
        os.setsid()  # what the terminal is told to end is told from there, once
    with suppress(BrokenPipeError, KeyboardInterrupt), Session(open_workspace(root)) as session:
        try:
            with closing(train(session, order)) as events:
                for event in events:
                    link.send(event)
            link.send(None)
        except SosieError as error:
            link.send(error_table(error))
