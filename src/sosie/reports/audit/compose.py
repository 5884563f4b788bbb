"""The whole document: a summary, then ten sections, each from the record alone."""

from __future__ import annotations

from sosie import __version__
from sosie.reports.audit import choices, findings
from sosie.reports.audit.audit import Audit
from sosie.reports.audit.document import Block, Cell, Document, Lines, Table
from sosie.reports.audit.findings import MARKS, measured
from sosie.reports.audit.words import Language, Words, words_of

SECTIONS = (
    findings.works,
    findings.fails,
    choices.machines,
    findings.loras,
    choices.notes,
    choices.decisions,
    choices.files,
    choices.steps,
    choices.active,
    findings.tests,
)
"""Sections 1 to 10."""


def compose(audit: Audit, language: Language) -> Document:
    """The document in that language. What people wrote on record stays as they wrote it."""
    words = words_of(language)
    return Document(
        language,
        words("title", character=audit.character),
        words("lead", day=words.day(audit.day)),
        words("summary_title"),
        words("contents_title"),
        _summary(audit, words),
        tuple(section(audit, words) for section in SECTIONS),
        words("foot", version=__version__),
    )


def _summary(audit: Audit, words: Words) -> tuple[Block, ...]:
    blocks: list[Block] = [Lines(tuple(Cell(text) for text in _sentences(audit, words)))]
    if audit.status:
        columns = tuple(map(words, ("component", "status", "result", "evidence", "tried")))
        rows = tuple(
            (
                Cell(one.series or one.component),
                Cell(words(f"outcome_{one.outcome}"), MARKS[one.outcome]),
                Cell(one.cause if one.series and one.cause else one.result),
                measured(one, words),
                Cell(words.day(one.date)),
            )
            for one in (kept.noun for kept in audit.status)
        )
        blocks.append(Table(columns, rows, words("status_title")))
    return tuple(blocks)


def _sentences(audit: Audit, words: Words) -> list[str]:
    """What a reader in a hurry needs: what stands, what is doubted, what it cost, what to do next."""
    trials = [one.noun for one in audit.status]
    good = sum(one.outcome == "works" for one in trials)
    eye = sum(one.outcome == "works" and not one.measured_by for one in trials)
    drawn, kept = sum(one.drawn for one in audit.shares), sum(one.kept for one in audit.shares)
    runs = len(audit.trainings)
    delivered = sum(run.end.path is not None for run in audit.trainings)
    nouns = [one.noun for one in audit.decisions]
    accepted = sum(one.status == "accepted" for one in nouns)
    bare = sum(one.status == "accepted" and not one.evidence for one in nouns)
    doubted = sum(one.status == "doubted" for one in nouns)
    unknown = sum(one.noun.cost is None for one in audit.rentals)
    said = [
        words("sum_components", good=good, all=len(trials), eye=eye) if trials else "",
        words("sum_images", kept=kept, drawn=drawn) if drawn else words("sum_no_images"),
        words("sum_runs", delivered=delivered, runs=runs) if runs else "",
        words("sum_decisions", accepted=accepted, bare=bare, doubted=doubted) if nouns else "",
        words("sum_spent", money=words.money(audit.spent), machines=len(audit.rentals) - unknown)
        if audit.spent
        else "",
        words("sum_unknown_hours", n=unknown) if unknown else "",
        words("sum_next", step=audit.steps[0].noun.title) if audit.steps else "",
    ]
    return [text for text in said if text]
