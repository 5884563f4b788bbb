"""What the catalogue's rows say, as nouns: renders, how they were judged, what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sosie.core import Environment, Finding, Plan, Score, Scorecard, Verdict
from sosie.core.schema import from_table
from sosie.store import images
from sosie.store.catalogue import Connection

RENDERS = """
SELECT r.id, p.json, r.engine, r.image, i.pixels, r.seconds, e.json, r.notes
FROM renders r JOIN plans p ON p.id = r.plan JOIN images i ON i.sha256 = r.image
JOIN environments e ON e.id = r.environment
"""
"""What `stored_render` reads."""


@dataclass(frozen=True)
class Notes:
    """What a render's stages said and measured."""

    findings: tuple[Finding, ...] = ()
    measures: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class StoredRender:
    """A render that is safe on disk. `image` is the PNG file, `sha256` the digest of its bytes.

    `pixels` is `pixels_digest` of the decoded image: equal pixels are equal bit for bit. The
    plan is the one first stored: a later request that resolves to the same content is not kept.
    """

    id: int
    plan: Plan
    engine: str
    image: Path
    sha256: str
    pixels: str
    seconds: float
    environment: Environment
    notes: Notes


def stored_render(row: Sequence[Any], catalogue: Path) -> StoredRender:
    """The render of a row of `RENDERS`; its image lies beside the file `catalogue`."""
    number, plan, engine, sha256, pixels, seconds, environment, notes = row
    return StoredRender(
        id=number,
        plan=Plan.from_json(json.loads(plan)),
        engine=engine,
        image=images.path_of(catalogue.parent / "images", sha256),
        sha256=sha256,
        pixels=pixels,
        seconds=seconds,
        environment=from_table(Environment, json.loads(environment), str(catalogue)),
        notes=from_table(Notes, json.loads(notes), str(catalogue)),
    )


def find_scorecard(reader: Connection, render_id: int, gate: str) -> tuple[Scorecard, Verdict] | None:
    """How a gate judged a render, equal to what was stored, or None."""
    rows = reader.rows(
        "SELECT c.outcome, c.reasons, s.json FROM scorecards c LEFT JOIN scores s ON s.scorecard = c.id "
        "WHERE c.render = ? AND c.gate = ? ORDER BY s.position",
        *(render_id, gate),
    )
    if not rows:
        return None
    outcome, reasons, _ = rows[0]
    where = f"{reader.path}: a score of render {render_id}"
    scores = tuple(from_table(Score, json.loads(text), where) for _, _, text in rows if text is not None)
    return Scorecard(scores), Verdict(outcome, tuple(json.loads(reasons)))


def find_findings(reader: Connection, run: int | None) -> tuple[Finding, ...]:
    """The findings of a run, in order; without one, the store's own: which images were lost and why."""
    sql = "SELECT code, severity, subject, message, hint FROM findings WHERE run IS ? ORDER BY id"
    return tuple(Finding(*row) for row in reader.rows(sql, run))
