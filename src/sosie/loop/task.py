"""Tasks and attempts: what the loop is asked for, what it works with, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sosie.core import Character, Engine, Plan, Recipe, Request, Scorecard, Verdict
from sosie.loop.judge_room import Here, Room

if TYPE_CHECKING:
    from pathlib import Path

    from sosie.loop.judge import Judge
    from sosie.store import Store, StoredRender


@dataclass(frozen=True)
class Task:
    """`n` images of one character for one request, within `budget` attempts in all; a repair is one of them.

    `judge` scores and judges them.
    """

    name: str
    recipe: Recipe
    character: Character
    request: Request
    n: int
    budget: int
    judge: Judge


@dataclass(frozen=True, eq=False)
class Attempt:
    """One finished attempt of a task: what was planned, made, measured and decided.

    `resumed` is True when the store already held the image; `delivered` is where a kept one lies, if there is who
    delivers.
    """

    task: Task
    plan: Plan
    stored: StoredRender
    scorecard: Scorecard
    verdict: Verdict
    resumed: bool
    delivered: Path | None = None


@dataclass(frozen=True)
class Drawn:
    """An engine has made an image, which is judged now."""

    plan: Plan


@dataclass(frozen=True, eq=False)
class Bench:
    """What all tasks share: an engine, the store, the digests of what their recipes name, and a room for judging.

    `deliver` writes a kept image, with a store that belongs to the thread that it is called in; one after another.
    """

    engine: Engine
    store: Store
    assets: Mapping[str, str]
    room: Room = field(default_factory=Here)
    deliver: Callable[[Attempt, Store], Path] | None = None
