"""The record of training runs: what was learned, how it went, why it ended. Failed and killed ones are in it too."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sosie.core import Environment
from sosie.core.errors import StoreError
from sosie.core.schema import digest, from_table
from sosie.store.catalogue import Catalogue, Connection, as_json, as_text, now

FLUSH_SECONDS = 5.0
"""How much of a loss curve a kill may take; the run's own log has every step."""

TABLES = ("training_runs", "training_losses", "training_judgements")

_COLUMNS = (
    "t.id, t.job, t.characters, t.recipe, t.family, t.base, t.base_sha256, t.dataset, t.images, t.steps, t.settings, "
    "t.folder, t.started, t.finished, t.cause, t.message, t.step, t.seconds, t.best, t.path, t.sha256, t.scores"
)


@dataclass(frozen=True)
class TrainingStart:
    """A run that begins: the job's digest, whose LoRA, on what, from what, with which settings, where.

    `dataset` is the digest of pictures, texts and faces, `images` their number; `folder` is the run's own.
    """

    job: str
    characters: tuple[str, ...]
    recipe: str
    family: str
    base: str
    base_sha256: str
    dataset: str
    images: int
    steps: int
    settings: Mapping[str, Any]
    machine: Environment
    folder: Path


@dataclass(frozen=True)
class TrainingEnd:
    """How a run ended: the cause, updates done, and what was delivered (None: nothing). `scores` are its own."""

    cause: str
    step: int = 0
    message: str = ""
    best: int | None = None
    path: Path | None = None
    sha256: str = ""
    scores: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredTraining:
    """A run on record. Without `cause` it is still going on, or was killed. Times are ISO 8601 in UTC."""

    id: int
    start: TrainingStart
    started: str
    finished: str
    end: TrainingEnd
    seconds: float

    @property
    def is_open(self) -> bool:
        """Whether it has no end on record."""
        return not self.end.cause


@dataclass(frozen=True)
class Loss:
    """One update: the batch's loss, the gradient's norm and the learning rate."""

    step: int
    loss: float
    gradient: float
    learning_rate: float


class TrainingView:
    """The training runs that `reader` sees; every method raises `StoreError`."""

    def __init__(self, reader: Connection) -> None:
        self._reader = reader

    def find(self, job: str) -> StoredTraining | None:
        """The newest run of that job, or None."""
        found = self._select("WHERE t.job = ? ORDER BY t.id DESC LIMIT 1", job)
        return found[0] if found else None

    def runs(self, character: str = "") -> tuple[StoredTraining, ...]:
        """Every run, or those of a character, the newest first."""
        found = self._select("ORDER BY t.id DESC")
        return tuple(one for one in found if not character or character in one.start.characters)

    def losses(self, training: int) -> tuple[Loss, ...]:
        """The loss curve of a run, by step."""
        sql = "SELECT step, loss, gradient, learning_rate FROM training_losses WHERE training = ? ORDER BY step"
        return tuple(Loss(*row) for row in self._reader.rows(sql, training))

    def judgements(self, training: int) -> tuple[tuple[int, dict[str, Any]], ...]:
        """Step and scores of every judgement of a run."""
        sql = "SELECT step, scores FROM training_judgements WHERE training = ? ORDER BY step"
        return tuple((step, json.loads(text)) for step, text in self._reader.rows(sql, training))

    def _select(self, rest: str, *values: Any) -> list[StoredTraining]:
        sql = f"SELECT {_COLUMNS}, e.json FROM training_runs t JOIN environments e ON e.id = t.machine {rest}"  # noqa: S608
        names = [name.removeprefix("t.") for name in _COLUMNS.split(", ")]
        return [
            self._stored(dict(zip([*names, "machine"], row, strict=True))) for row in self._reader.rows(sql, *values)
        ]

    def _stored(self, row: dict[str, Any]) -> StoredTraining:
        start = TrainingStart(
            job=row["job"],
            characters=tuple(json.loads(row["characters"])),
            recipe=row["recipe"],
            family=row["family"],
            base=row["base"],
            base_sha256=row["base_sha256"],
            dataset=row["dataset"],
            images=row["images"],
            steps=row["steps"],
            settings=json.loads(row["settings"]),
            machine=from_table(Environment, json.loads(row["machine"]), str(self._reader.path)),
            folder=Path(row["folder"]),
        )
        end = TrainingEnd(
            cause=row["cause"] or "",
            step=row["step"],
            message=row["message"],
            best=row["best"],
            path=Path(row["path"]) if row["path"] else None,
            sha256=row["sha256"] or "",
            scores=json.loads(row["scores"]) if row["scores"] else None,
        )
        return StoredTraining(row["id"], start, row["started"], row["finished"] or "", end, row["seconds"])


class TrainingRecords(TrainingView):
    """The training tables of the catalogue in `folder`, which a `Store` has made. One for each thread; close it.

    Every method raises `StoreError`.
    """

    def __init__(self, folder: Path) -> None:
        self._catalogue = Catalogue(folder / "catalogue.sqlite")
        super().__init__(self._catalogue)
        self._waiting: list[tuple[int, Loss, float]] = []
        self._written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Writes what waits, and frees the catalogue."""
        try:
            self.flush()
        finally:
            self._catalogue.close()

    def begin(self, run: int, start: TrainingStart, resumed: bool = False) -> int:
        """Records that a run begins, or that the newest one of the job goes on: its number. `run` is the command's."""
        known = self.find(start.job) if resumed else None
        with self._catalogue.write():
            machine = digest(start.machine)
            self._catalogue.insert(
                "INSERT INTO environments VALUES (?, ?) ON CONFLICT DO NOTHING", machine, as_json(start.machine)
            )
            if known is not None:
                sql = "UPDATE training_runs SET finished = NULL, cause = NULL, message = '', machine = ? WHERE id = ?"
                self._catalogue.rows(sql, machine, known.id)
                return known.id
            return self._catalogue.insert(
                "INSERT INTO training_runs (run, job, characters, recipe, family, base, base_sha256, dataset, images, "
                "steps, settings, machine, folder, started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(run, start.job, as_json(list(start.characters)), as_text(start.recipe), as_text(start.family)),
                *(as_text(start.base), start.base_sha256, start.dataset, start.images, start.steps),
                *(as_json(dict(start.settings)), machine, as_text(start.folder), now()),
            )

    def add_past(self, run: int, start: TrainingStart, end: TrainingEnd, days: tuple[str, str]) -> int:
        """Records a run that another program made: its number. `days`: when it began and ended, ISO 8601."""
        number = self.begin(run, start)
        self.end(number, end)
        self._catalogue.rows("UPDATE training_runs SET started = ?, finished = ? WHERE id = ?", *days, number)
        return number

    def add_loss(self, training: int, loss: Loss, seconds: float) -> None:
        """Records an update that took `seconds`; written with others, at most `FLUSH_SECONDS` later."""
        self._waiting.append((training, loss, seconds))
        if time.monotonic() - self._written >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the updates that wait."""
        self._written = time.monotonic()
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        with self._catalogue.write():
            self._catalogue.insert_many(
                "INSERT OR REPLACE INTO training_losses VALUES (?, ?, ?, ?, ?)",
                [(number, one.step, one.loss, one.gradient, one.learning_rate) for number, one, _ in waiting],
            )
            self._catalogue.insert_many(
                "UPDATE training_runs SET step = ?, seconds = seconds + ? WHERE id = ?",
                [(one.step, seconds, number) for number, one, seconds in waiting],
            )

    def add_judgement(self, training: int, step: int, scores: Mapping[str, Any]) -> None:
        """Records what the judges said after `step` updates."""
        sql = "INSERT OR REPLACE INTO training_judgements VALUES (?, ?, ?)"
        self._catalogue.insert(sql, training, step, as_json(dict(scores)))

    def roll_back(self, training: int, step: int) -> None:
        """Forgets what came after `step`, for it is done again."""
        self.flush()
        with self._catalogue.write():
            for table in ("training_losses", "training_judgements"):
                self._catalogue.rows(f"DELETE FROM {table} WHERE training = ? AND step > ?", training, step)  # noqa: S608
            self._catalogue.rows("UPDATE training_runs SET step = ? WHERE id = ?", step, training)

    def end(self, training: int, end: TrainingEnd) -> None:
        """Records why a run ended and what was delivered. A step that is not known stays as it was."""
        self.flush()
        sql = (
            "UPDATE training_runs SET finished = ?, cause = ?, message = ?, step = max(step, ?), best = ?, path = ?, "
            "sha256 = ?, scores = ? WHERE id = ? RETURNING id"
        )
        values = (end.cause, as_text(end.message), end.step, end.best, as_text(end.path) if end.path else None)
        scores = as_json(dict(end.scores)) if end.scores is not None else None
        if not self._catalogue.row(sql, now(), *values, end.sha256 or None, scores, training):
            raise StoreError(f"{self._catalogue.path} has no training run {training}; expected one that begin gave")
