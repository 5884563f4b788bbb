"""What an audit says: everything on record about a character, one noun from which page, Markdown and JSON are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sosie.core.experiment_result import ExperimentResult
from sosie.core.schema import to_table
from sosie.knowledge.book import Kept, Noun
from sosie.knowledge.decision import Decision
from sosie.knowledge.key_file import KeyFile
from sosie.knowledge.note import Note
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.knowledge.trial import Trial
from sosie.store.training import StoredTraining


@dataclass(frozen=True)
class Share:
    """How many of the images drawn by a recipe were kept; `low` to `high` is the 95 % Wilson interval, 0 to 1."""

    recipe: str
    kept: int
    drawn: int
    low: float
    high: float


@dataclass(frozen=True)
class UsedFile:
    """A file that images on record were drawn with; `sha256` is empty where it could not be read."""

    name: str
    role: str
    sha256: str


@dataclass(frozen=True)
class Drawn:
    """What a machine drew, and what of it was kept; `each` are US dollars for a kept image, None where not known."""

    drawn: int
    kept: int
    each: float | None


@dataclass(frozen=True)
class Audit:
    """Everything on record about a character on one day (ISO 8601). `drawn` is by the label of a rental.

    `hour` is what an hour is counted as, in US dollars, where steps are ranked. Decisions have been looked at again.
    """

    character: str
    day: str
    hour: float
    shares: tuple[Share, ...] = ()
    used: tuple[UsedFile, ...] = ()
    trainings: tuple[StoredTraining, ...] = ()
    experiments: tuple[ExperimentResult, ...] = ()
    decisions: tuple[Kept[Decision], ...] = ()
    notes: tuple[Kept[Note], ...] = ()
    tasks: tuple[Kept[Task], ...] = ()
    trials: tuple[Kept[Trial], ...] = ()
    rentals: tuple[Kept[Rental], ...] = ()
    files: tuple[Kept[KeyFile], ...] = ()
    drawn: Mapping[str, Drawn] = field(default_factory=dict[str, "Drawn"])

    @property
    def status(self) -> tuple[Kept[Trial], ...]:
        """The newest trial of each component, or of each series, in the order in which they were first tried."""
        newest: dict[str, Kept[Trial]] = {}
        for one in self.trials:
            subject = one.noun.series or one.noun.component
            known = newest.get(subject)
            if known is None or one.noun.date >= known.noun.date:
                newest[subject] = one
        return tuple(newest.values())

    @property
    def steps(self) -> tuple[Kept[Task], ...]:
        """The tasks that are not done, by expected gain for each dollar; those that nobody estimated come last."""
        waiting = [one for one in self.tasks if one.noun.state in ("open", "blocked")]
        return tuple(sorted(waiting, key=lambda one: -(one.noun.worth(self.hour) or 0)))

    @property
    def spent(self) -> float:
        """US dollars, of the machines whose hours are known."""
        return sum(one.noun.cost or 0 for one in self.rentals)

    def taught(self, training: int) -> tuple[str, ...]:
        """What notes say of a training run."""
        return tuple(one.noun.text for one in self.notes if one.noun.about == f"training {training}")

    def _images(self, rental: Rental) -> dict[str, Any]:
        found = self.drawn.get(rental.label)
        if found is None:
            return {}
        return {"images_drawn": found.drawn, "images_kept": found.kept, "each_usd": found.each}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. An experiment stands with its digest and contrasts; its cells are in its own result."""
        return {
            "character": self.character,
            "day": self.day,
            "hour_usd": self.hour,
            "spent_usd": round(self.spent, 4),
            "shares": to_table(self.shares),
            "used": to_table(self.used),
            "trainings": [_training(one) for one in self.trainings],
            "experiments": [_experiment(one) for one in self.experiments],
            "decisions": _all(self.decisions),
            "notes": _all(self.notes),
            "steps": [{**_one(one), "worth": one.noun.worth(self.hour)} for one in self.steps],
            "tasks": _all(self.tasks),
            "trials": _all(self.trials),
            "rentals": [{**_one(one), "cost_usd": one.noun.cost, **self._images(one.noun)} for one in self.rentals],
            "files": _all(self.files),
        }


def _all(kept: tuple[Kept[Any], ...]) -> list[dict[str, Any]]:
    return [_one(one) for one in kept]


def _one(kept: Kept[Any]) -> dict[str, Any]:
    noun: Noun = kept.noun
    return {"id": kept.id, "version": kept.entry.version, "written": kept.written, **to_table(noun)}


def _training(run: StoredTraining) -> dict[str, Any]:
    table = to_table(run)
    table["start"].pop("folder")
    table["end"]["path"] = run.end.path.name if run.end.path else None
    return table


def _experiment(result: ExperimentResult) -> dict[str, Any]:
    keys = ("id", "question", "state", "finished", "scale", "blocks", "contrasts", "winner", "deviations", "command")
    table = to_table(result)
    return {**{key: table[key] for key in keys}, "digest": result.digest}
