"""The JSON of what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.api.comparing.panels import NewPanel, PanelResults
    from sosie.api.comparing.sides import Compared

JSON = dict[str, Any]


def new_panel(made: NewPanel) -> JSON:
    """The panel that was made: its cells and how many pairs of which kind it has."""
    panel = made.panel
    kinds = [pair.kind for pair in panel.pairs]
    return {
        "panel": panel.name,
        "id": panel.id,
        "path": str(made.path),
        "question": panel.question,
        "character": panel.character,
        "cells": {cell: sum(image.cell == cell for image in panel.images) for cell in panel.cells},
        "pairs": {kind: kinds.count(kind) for kind in ("test", "repeat", "identical")},
    }


def panel_results(found: PanelResults) -> JSON:
    """What people chose, and every score beside them; what is not known is None."""
    results = found.results
    return {
        "panel": results.panel.name,
        "id": results.panel.id,
        "question": results.panel.question,
        "people": to_table(results.people),
        "votes": results.votes,
        "undecided": results.undecided,
        "left": to_table(results.left),
        "cells": to_table(results.strengths),
        "people_with_people": to_table(results.with_each_other),
        "people_with_most": to_table(results.with_most),
        "scores": to_table(results.agreements),
        "thresholds": to_table(results.thresholds),
        "seen": to_table(results.seen),
        "page": str(found.page) if found.page else None,
    }


def compared(done: Compared) -> JSON:
    """Both sides in pairs, every score with its difference, and the page."""
    found = done.comparison
    return {
        "a": found.a.name,
        "b": found.b.name,
        "pairs": [{"block": pair.block or None, "a": str(pair.a.path), "b": str(pair.b.path)} for pair in found.pairs],
        "alone": list(found.alone),
        "scores": [{**to_table(row), "why_not": row.why_not or None} for row in found.rows],
        "page": str(done.page) if done.page else None,
    }


WRITERS = {
    "sosie.api.comparing.panels.NewPanel": new_panel,
    "sosie.api.comparing.panels.PanelResults": panel_results,
    "sosie.api.comparing.sides.Compared": compared,
}
"""By the noun's full name."""
