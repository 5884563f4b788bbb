"""The JSON of trainings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers

if TYPE_CHECKING:
    from sosie.api.training import Trained
    from sosie.store.training import StoredTraining


def _trained(done: Trained) -> JSON:
    record, triggers = done.record, list(done.triggers)
    return {
        "path": str(record.end.path) if record.end.path else None,
        "trigger": triggers[0] if len(triggers) == 1 else triggers,
        "scores": record.end.scores,
        "characters": list(record.start.characters),
        "given_to": list(done.given_to),
        "report": str(done.report),
        **_run(record),
    }


def _stored_training(run: StoredTraining) -> JSON:
    return {
        "characters": list(run.start.characters),
        "path": str(run.end.path) if run.end.path else None,
        "scores": run.end.scores,
        **_run(run),
        "settings": dict(run.start.settings),
        "machine": run.start.machine.device,
    }


def _run(run: StoredTraining) -> JSON:
    start, end = run.start, run.end
    return {
        "id": run.id,
        "recipe": start.recipe,
        "base": start.base,
        "base_sha256": start.base_sha256,
        "dataset": start.dataset,
        "images": start.images,
        "job": start.job,
        "started": run.started,
        "finished": run.finished or None,
        "cause": end.cause or None,
        "message": end.message or None,
        "step": end.step,
        "steps": start.steps,
        "best": end.best,
        "sha256": end.sha256 or None,
        "seconds": round(run.seconds, 3),
    }


WRITERS: Writers = {
    "sosie.api.training.Trained": _trained,
    "sosie.store.training.StoredTraining": _stored_training,
}
