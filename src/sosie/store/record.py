"""The record: what a workspace's store holds, to be read and never changed by reading."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from types import TracebackType
from typing import Any, Self

from sosie.core import Finding, Scorecard, Verdict
from sosie.core.errors import StoreError
from sosie.store.catalogue import Snapshot, as_text
from sosie.store.entries import EntryView
from sosie.store.rows import RENDERS, StoredRender, find_findings, find_scorecard, stored_render
from sosie.store.training import TrainingView


@dataclass(frozen=True)
class StoredRun:
    """A command that began. Without `outcome` it still goes on, or was killed. Times are ISO 8601 in UTC."""

    id: int
    command: str
    arguments: dict[str, Any]
    started: str
    finished: str
    outcome: str


@dataclass(frozen=True)
class Delivery:
    """A file that was written for a run; `provenance` says whether it has a manifest."""

    run: int
    path: Path
    provenance: bool


@dataclass(frozen=True)
class Cost:
    """What images of a recipe took: the median of the seconds of `n` of them, and the mean of their bytes."""

    engine: str
    n: int
    seconds: float
    bytes: float


@dataclass(frozen=True)
class StoredAttempt:
    """A render, how one gate judged it, and where it was delivered, oldest first."""

    render: StoredRender
    scorecard: Scorecard
    verdict: Verdict
    deliveries: tuple[Delivery, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether the gate let it pass."""
        return self.verdict.outcome == "keep"


class Record:
    """A read-only view of the store in `folder` as it was when this was opened. One for each thread; close it.

    Images are named, not checked. Every method raises `StoreError`.
    """

    def __init__(self, folder: Path) -> None:
        self._snapshot = Snapshot(folder / "catalogue.sqlite")
        self.training = TrainingView(self._snapshot)
        self.entries = EntryView(self._snapshot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the catalogue."""
        self._snapshot.close()

    def runs(self, command: str = "") -> tuple[StoredRun, ...]:
        """Every run, or those of a command, the newest first."""
        sql = (
            "SELECT id, command, arguments, started, coalesce(finished, ''), coalesce(outcome, '') FROM runs "
            "WHERE ? IN ('', command) ORDER BY id DESC"
        )
        return tuple(
            StoredRun(number, name, json.loads(arguments), *rest)
            for number, name, arguments, *rest in self._snapshot.rows(sql, command)
        )

    def findings(self, run: int | None = None) -> tuple[Finding, ...]:
        """The findings of a run, in order; without one, the store's own: which images were lost and why."""
        return find_findings(self._snapshot, run)

    def cost(self, recipe: str, scheme: str) -> Cost | None:
        """What the latest 200 images of a recipe took by an engine whose name begins so; None if there are none."""
        rows = self._snapshot.rows(
            "SELECT r.engine, r.seconds, i.bytes FROM renders r JOIN plans p ON p.id = r.plan JOIN images i "
            "ON i.sha256 = r.image WHERE p.recipe = ? AND substr(r.engine, 1, ?) = ? ORDER BY r.id DESC LIMIT 200",
            *(as_text(recipe), len(scheme), scheme),
        )
        if not rows:
            return None
        engine = str(rows[0][0])
        own = [(float(seconds), int(size)) for name, seconds, size in rows if name == engine]
        return Cost(engine, len(own), median(one for one, _ in own), mean(size for _, size in own))

    def failures(self, experiment: str, code: str) -> dict[str, Finding]:
        """What kept cells of an experiment from being drawn, by the ids of their plans: the latest of each."""
        runs = [run for run in self.runs("experiment") if run.arguments.get("id") == experiment]
        told = (finding for run in reversed(runs) for finding in self.findings(run.id) if finding.code == code)
        return {finding.subject: finding for finding in told}

    def attempt(self, number: int, gate: str) -> StoredAttempt:
        """The render `number` as `gate` judged it; `StoreError` if it did not."""
        row = self._snapshot.row(f"{RENDERS} WHERE r.id = ?", number)
        judged = find_scorecard(self._snapshot, number, as_text(gate))
        if row is None or judged is None:
            missing = "no render" if row is None else f"no scorecard of gate {gate[:12]} for render"
            raise StoreError(f"{self._snapshot.path} has {missing} {number}; expected one that is stored")
        return StoredAttempt(stored_render(row, self._snapshot.path), *judged, self._deliveries("render", number))

    def renders(self, character: str = "", recipe: str = "") -> tuple[StoredRender, ...]:
        """Every render, or those of a character or a recipe, oldest first."""
        sql = f"{RENDERS} WHERE ? IN ('', p.character) AND ? IN ('', p.recipe) ORDER BY r.id"
        rows = self._snapshot.rows(sql, as_text(character), as_text(recipe))
        return tuple(stored_render(row, self._snapshot.path) for row in rows)

    def judged(self, character: str = "") -> tuple[StoredAttempt, ...]:
        """Every judgement of every render, or those of a character's, oldest first."""
        sql = (
            "SELECT c.render, c.gate FROM scorecards c JOIN renders r ON r.id = c.render JOIN plans p ON p.id = r.plan "
            "WHERE ? IN ('', p.character) ORDER BY c.id"
        )
        return tuple(self.attempt(*row) for row in self._snapshot.rows(sql, as_text(character)))

    def kept(self, character: str) -> tuple[tuple[str, int, int], ...]:
        """Of each recipe of a character: how many images the newest judgement kept, and how many it judged."""
        sql = (
            "SELECT p.recipe, sum(c.outcome = 'keep'), count(*) FROM scorecards c JOIN renders r ON r.id = c.render "
            "JOIN plans p ON p.id = r.plan WHERE c.id IN (SELECT max(id) FROM scorecards GROUP BY render) "
            "AND p.character = ? GROUP BY p.recipe ORDER BY p.recipe"
        )
        rows = self._snapshot.rows(sql, as_text(character))
        return tuple((str(recipe), int(kept), int(judged)) for recipe, kept, judged in rows)

    def measured(self, kind: str, character: str, recipe: str, before: int) -> dict[str, list[float]]:
        """Values of the scores of a kind by name, of the images of a character and a recipe older than render `before`.

        Only of those that the newest judgement kept, among the 1,000 newest.
        """
        sql = (
            "SELECT s.name, s.value FROM scores s JOIN scorecards c ON c.id = s.scorecard "
            "WHERE s.kind = ? AND s.value IS NOT NULL AND c.outcome = 'keep' AND c.id IN "
            "(SELECT max(j.id) FROM scorecards j JOIN renders r ON r.id = j.render JOIN plans p ON p.id = r.plan "
            "WHERE p.character = ? AND p.recipe = ? AND r.id < ? GROUP BY r.id ORDER BY r.id DESC LIMIT 1000)"
        )
        found: dict[str, list[float]] = {}
        for name, value in self._snapshot.rows(sql, kind, as_text(character), as_text(recipe), before):
            found.setdefault(str(name), []).append(float(value))
        return found

    def files(self, character: str) -> tuple[tuple[str, str, str], ...]:
        """Name, role and SHA-256 (may be empty) of every file that a character's images were drawn with."""
        sql = (
            "SELECT DISTINCT m.name, m.role, m.sha256 FROM models m JOIN plan_models u ON u.model = m.id "
            "JOIN plans p ON p.id = u.plan WHERE p.character = ? ORDER BY m.role, m.name"
        )
        return tuple(
            (str(name), str(role), str(sha)) for name, role, sha in self._snapshot.rows(sql, as_text(character))
        )

    def marked(self) -> tuple[tuple[str, int, int], ...]:
        """Each plan whose images carry a watermark, with width and height of its image."""
        sql = (
            "SELECT DISTINCT p.id, i.width, i.height FROM plans p JOIN renders r ON r.plan = p.id "
            "JOIN images i ON i.sha256 = r.image WHERE json_extract(p.json, '$.watermark')"
        )
        return tuple((str(plan), int(width), int(height)) for plan, width, height in self._snapshot.rows(sql))

    def deliveries(self, run: int) -> tuple[Delivery, ...]:
        """What a run delivered, oldest first; what is not in the store any more is among it."""
        return self._deliveries("run", run)

    def delivered(self, run: int) -> frozenset[str]:
        """The ids of the plans whose images a run delivered."""
        return frozenset(str(plan) for (plan,) in self._snapshot.rows("SELECT plan FROM deliveries WHERE run = ?", run))

    def _deliveries(self, column: str, number: int) -> tuple[Delivery, ...]:
        sql = f"SELECT run, path, provenance FROM deliveries WHERE {column} = ? AND finished IS NOT NULL ORDER BY id"  # noqa: S608
        return tuple(Delivery(run, Path(path), bool(signed)) for run, path, signed in self._snapshot.rows(sql, number))
