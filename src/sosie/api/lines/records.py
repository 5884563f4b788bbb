"""The JSON of what is known: audits, decisions, notes, tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sosie.api.lines.findings import JSON, Writers, finding_line
from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.api.knowledge.audit import Audited
    from sosie.knowledge.book import Kept


def _audited(made: Audited) -> JSON:
    paths = {name: str(getattr(made, name)) for name in ("html", "markdown", "json")}
    return {**paths, "findings": [finding_line(one) for one in made.findings]}


def _kept(kept: Kept[Any]) -> JSON:
    return {"id": kept.id, "version": kept.entry.version, "written": kept.written, **to_table(kept.noun)}


WRITERS: Writers = {
    "sosie.api.knowledge.audit.Audited": _audited,
    "sosie.knowledge.book.Kept": _kept,
}
