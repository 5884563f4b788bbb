"""Machines that draw a manifest and die at random, in simulated time. Manifest, claims, pulling and budget are real."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from sosie.core import Character, Draw, Environment, Finding, Plan, Progress, Recipe, Render, Request, Stage, plan
from sosie.core.errors import LostError
from sosie.engines.shards.claims import Claims
from sosie.engines.shards.manifest import Manifest
from sosie.engines.shards.pull import Pulled, Waits, pull
from sosie.knowledge.rental import Rental
from sosie.pods.budget import rest_of
from sosie.pods.switch import new_label

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)
WHO = Character("mira", "fictional", True, "a woman")
PICTURE = Image.new("RGB", (1, 1))
HERE = Environment("3.12", "simulated", "none", ())

NOTICED = 600.0
"""Seconds until a dead machine is ended; it is billed until then."""


def plans_of(n: int, who: Character = WHO) -> list[Plan]:
    """`n` plans of one request."""
    return [plan(RECIPE, who, Request("r", who.name, "smiling"), Draw(i), {"m": "0" * 64}) for i in range(n)]


@dataclass(frozen=True)
class Fleet:
    """So many machines at a time, and how they behave. Times in seconds, means of exponential distributions.

    `dies`: from the start to the end of a machine. `stalls`: the share of them that only fall silent, for `silent`.
    `loses`: the share of images at which the card is lost, and the worker begins anew.
    """

    machines: int = 50
    budget: float = 120.0
    hours: float = 4.0
    draw: float = 5.0
    dies: float = 7200.0
    stalls: float = 0.3
    silent: float = 2400.0
    loses: float = 0.0005


@dataclass
class Outcome:
    """What came of it. `drawn` counts the images that machines finished, `put` those that were kept."""

    put: int = 0
    drawn: int = 0
    in_vain: int = 0
    begun: int = 0
    died: int = 0
    silent: int = 0
    lost_cards: int = 0
    rented: int = 0
    refused: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    committed: float = 0.0
    twice: list[str] = field(default_factory=list[str])


@dataclass(eq=False)
class Machine:
    """One rented machine."""

    rental: Rental
    number: int
    dies: float
    ends: float
    falls_silent: bool
    speed: float
    work: Generator[Any] | None = None


class Simulated:
    """Keeps the Engine protocol; the time that an image takes passes outside, after its progress."""

    name = "simulated"

    def __init__(self, chance: random.Random, loses: float, outcome: Outcome) -> None:
        self._chance, self._loses, self._outcome = chance, loses, outcome

    def check(self, plan: Plan) -> list[Finding]:
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        for one in plans:
            self._outcome.begun += 1
            yield Progress("generate", 0, 1)
            if self._chance.random() < self._loses:
                raise LostError("the card is gone")
            self._outcome.drawn += 1
            yield Render(PICTURE, one, self.name, HERE, 0.0)

    def close(self) -> None:
        pass


class Simulation:
    """One run. The heap holds what happens next: a machine goes on, dies, is missed, or reaches its deadline."""

    def __init__(self, folder: Path, plans: list[Plan], fleet: Fleet, seed: int = 0) -> None:
        self._folder, self._fleet, self._chance = folder, fleet, random.Random(seed)
        self.outcome = Outcome()
        self.now = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, Machine, str]] = []
        self._rentals: dict[str, Rental] = {}
        self._alive: set[Machine] = set()
        self._dead: list[Machine] = []  # kept, so that no generator is closed: a dead machine cleans nothing up
        self._kept: set[str] = set()
        self._engine = Simulated(self._chance, fleet.loses, self.outcome)
        Manifest.make(folder).add(plans)
        self._is_done = False

    def run(self) -> Outcome:
        """Until nothing is left, or nobody is there and the budget pays for no one."""
        for _ in range(self._fleet.machines):
            self._rent()
        while self._heap and not self._is_done:
            self.now, _, machine, what = heapq.heappop(self._heap)
            {"go": self._go, "die": self._die, "miss": self._miss, "end": self._end}[what](machine)
            self._check_budget()
        for machine in list(self._alive):
            self._end(machine)
        self.outcome.seconds = self.now
        self.outcome.cost = sum(one.cost or 0.0 for one in self._rentals.values())
        return self.outcome

    def _at(self, when: float, machine: Machine, what: str) -> None:
        heapq.heappush(self._heap, (when, next(self._order), machine, what))

    def _rent(self) -> None:
        price = self._chance.uniform(0.2, 0.6)
        if price * self._fleet.hours > rest_of(self._fleet.budget, self._rentals.values()):
            self.outcome.refused += 1
            return
        started = BEGIN + timedelta(seconds=self.now)
        label = new_label("sim", started + timedelta(hours=self._fleet.hours))
        rental = Rental(label, "card", price, started.isoformat())
        self._rentals[label] = rental
        machine = Machine(
            rental,
            self.outcome.rented,
            self.now + self._chance.expovariate(1 / self._fleet.dies),
            self.now + self._fleet.hours * 3600,
            self._chance.random() < self._fleet.stalls,
            self._chance.uniform(0.7, 1.4),
        )
        self.outcome.rented += 1
        self._alive.add(machine)
        self._at(self.now + self._chance.uniform(60, 300), machine, "go")
        self._at(machine.dies, machine, "die")
        self._at(machine.ends, machine, "end")

    def _begin(self, machine: Machine) -> Generator[Any]:
        claims = Claims(self._folder / "claims", f"machine {machine.number}", lambda: BEGIN.timestamp() + self.now)
        return pull(Manifest(self._folder), claims, self._engine)

    def _go(self, machine: Machine) -> None:
        if machine not in self._alive:
            return
        machine.work = machine.work or self._begin(machine)
        try:
            event = next(machine.work)
        except StopIteration:
            self._is_done = True
            return
        except LostError:
            self.outcome.lost_cards += 1
            machine.work = None
            self._at(self.now + 60, machine, "go")
            return
        match event:
            case Pulled():
                self._note(event)
                self._at(self.now, machine, "go")
            case Waits():
                self._at(self.now + 30, machine, "go")
            case _:
                pause = self._fleet.draw * machine.speed * self._chance.uniform(0.8, 1.3)
                if machine.falls_silent and self.now + pause > machine.dies:
                    self.outcome.silent += 1
                    machine.falls_silent, machine.dies = False, math.inf
                    pause += self._chance.expovariate(1 / self._fleet.silent)
                self._at(self.now + pause, machine, "go")

    def _note(self, event: Pulled) -> None:
        if event.in_vain:
            self.outcome.in_vain += 1
            return
        if event.plan_id in self._kept:
            self.outcome.twice.append(event.plan_id)
        self._kept.add(event.plan_id)
        self.outcome.put += 1

    def _die(self, machine: Machine) -> None:
        """It is gone, and nobody knows yet; one that falls silent comes back."""
        if machine not in self._alive or machine.falls_silent or machine.dies != self.now:
            return
        self._alive.discard(machine)
        self._dead.append(machine)
        self.outcome.died += 1
        self._at(min(self.now + NOTICED, machine.ends), machine, "miss")

    def _miss(self, machine: Machine) -> None:
        self._close(machine)
        self._rent()

    def _end(self, machine: Machine) -> None:
        """Its deadline, or the end of all."""
        if machine not in self._alive:
            return
        self._alive.discard(machine)
        self._dead.append(machine)
        self._close(machine)
        if not self._is_done:
            self._rent()

    def _close(self, machine: Machine) -> None:
        label, ended = machine.rental.label, BEGIN + timedelta(seconds=self.now)
        self._rentals[label] = replace(machine.rental, ended=ended.isoformat())

    def _check_budget(self) -> None:
        spent = self._fleet.budget - rest_of(self._fleet.budget, self._rentals.values())
        self.outcome.committed = max(self.outcome.committed, spent)
