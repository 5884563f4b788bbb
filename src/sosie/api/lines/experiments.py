"""The JSON of experiments while they are drawn, and at their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers
from sosie.core.schema import to_table

if TYPE_CHECKING:
    from sosie.api.experiments import ExperimentDone
    from sosie.lab.course import CellDone, Looked


def _cell(event: CellDone) -> JSON:
    from sosie.api.views.experiments import cell_line

    return {**cell_line(event.cell), "number": event.number, "total": event.total}


def _looked(look: Looked) -> JSON:
    return {"blocks": look.blocks, "decided": to_table(look.decided), "dropped": list(look.dropped), "open": look.open}


def _done(done: ExperimentDone) -> JSON:
    return {"id": done.result.id, "state": done.result.state, "digest": done.result.digest}


WRITERS: Writers = {
    "sosie.api.experiments.ExperimentDone": _done,
    "sosie.lab.course.CellDone": _cell,
    "sosie.lab.course.Looked": _looked,
}
