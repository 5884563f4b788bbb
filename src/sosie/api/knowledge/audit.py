"""Audit: everything on record about a character, written as a page, as Markdown and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sosie.api.knowledge import decisions
from sosie.api.renting.leases import ledger
from sosie.core import Character, Finding, Result
from sosie.core.errors import SosieError, UsageError
from sosie.core.experiment_result import ExperimentResult
from sosie.core.ranges import Range
from sosie.knowledge.book import BookView
from sosie.knowledge.days import today
from sosie.knowledge.key_file import KeyFile
from sosie.knowledge.note import Note
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.knowledge.trial import Trial
from sosie.reports.audit import publish
from sosie.reports.audit.audit import Audit, Drawn, Share, UsedFile
from sosie.reports.audit.words import Language
from sosie.scorers.statistics import wilson
from sosie.store.record import Record
from sosie.workspace.characters import load_character
from sosie.workspace.experiments import list_experiments, load_result
from sosie.workspace.session import Session

HOUR = Range(0, 1e6)
"""What an hour may count as, in US dollars."""


@dataclass(frozen=True)
class Audited(Result):
    """The audit and where it was written; `findings` are the doubts of its decisions."""

    audit: Audit
    html: Path
    markdown: Path
    json: Path
    findings: tuple[Finding, ...]


def write_audit(
    session: Session, character: str, language: Language = "en", out: Path | None = None, hour: float = 1.0
) -> Audited:
    """Writes a character's audit into the folder `out` (by default `outputs/CHARACTER/audit`).

    Decisions are looked at again first. An hour counts as `hour` US dollars where next steps are ranked. Raises
    `NotFoundError` for a character that is not there, `UsageError` for an hour that is no price, `DeliveryError` for a
    folder that cannot be written.
    """
    if not HOUR.holds(hour):
        raise UsageError(f"an hour for {hour:g} US dollars {HOUR.complaint}", "add --hour 1")
    who = load_character(session.workspace, character)
    audit = gather(session, who, hour)
    folder = out or session.workspace.root / "outputs" / who.name / "audit"
    html, markdown, data = publish.write_audit(audit, language, folder)
    doubts = tuple(finding for one in audit.decisions for finding in decisions.findings_of(one))
    return Audited(audit, html, markdown, data, doubts)


def gather(session: Session, character: Character, hour: float = 1.0) -> Audit:
    """Everything on record about a character, as it is now."""
    name = character.name
    decided = decisions.review(session, name)
    with Record(session.store.folder) as record:
        book = BookView(record.entries)
        return Audit(
            name,
            today(),
            hour,
            tuple(_share(*row) for row in record.kept(name)),
            _used(record, character),
            record.training.runs(name),
            _experiments(session, name),
            decided,
            book.all(Note, name),
            book.all(Task, name),
            book.all(Trial, name),
            book.all(Rental, name),
            book.all(KeyFile, name),
            {one.rental.label: Drawn(one.drawn, one.kept, one.each) for one in ledger(session)},
        )


def _share(recipe: str, kept: int, judged: int) -> Share:
    found = wilson(kept, judged)
    return Share(recipe, kept, judged, found.low, found.high)


def _used(record: Record, character: Character) -> tuple[UsedFile, ...]:
    own = [UsedFile(lora.file, "lora", lora.sha256) for lora in character.loras]
    return (*own, *(UsedFile(*row) for row in record.files(character.name)))


def _experiments(session: Session, character: str) -> tuple[ExperimentResult, ...]:
    """The results of a character's experiments, oldest first; one that is damaged is left out."""
    found: list[ExperimentResult] = []
    for name in list_experiments(session.workspace):
        try:
            result = load_result(session.workspace, name)
        except SosieError:
            continue
        if result is not None and result.character == character:
            found.append(result)
    return tuple(sorted(found, key=lambda one: one.finished))
