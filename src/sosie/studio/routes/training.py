"""Training: sets with captions that are edited in place, and runs with their curves."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from sosie.api import Session, json_of
from sosie.api.jobs.queue import open_jobs
from sosie.api.views.sets import change_caption, describe_set, set_path
from sosie.store.record import Record
from sosie.studio.asked import Caption, Digest, Name, Row
from sosie.studio.desk import Desk
from sosie.studio.routes.images import FOR_EVER

MOST_POINTS = 400
"""Of a loss curve: more than a screen can show."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, work = APIRouter(prefix="/api"), desk.workspace

    @router.get("/characters/{name}/dataset")
    def dataset(name: Name) -> list[dict[str, Any]]:
        """The pictures of a character's training set with their captions."""
        return describe_set(work, name)

    @router.get("/characters/{name}/dataset/{sha256}", response_class=Response)
    def picture(name: Name, sha256: Digest, w: int = 320) -> Response:
        """A WebP copy of a picture of a training set."""
        content = desk.small(set_path(work, name, sha256), sha256, w)
        return Response(content, media_type="image/webp", headers=FOR_EVER)

    @router.post("/characters/{name}/dataset/{sha256}/caption")
    def caption(name: Name, sha256: Digest, asked: Caption) -> dict[str, Any]:
        """Writes a caption; it counts as given from now on, and is not written anew by a program."""
        with Session(work) as session:
            return change_caption(session, name, sha256, asked.caption)

    @router.get("/training")
    def runs() -> list[dict[str, Any]]:
        """Every training run on record, failed ones too, the newest first."""
        open_jobs(work).close()
        with Record(work.state) as record:
            return [json_of(run) for run in record.training.runs()]

    @router.get("/training/{number}/curve")
    def curve(number: Row) -> dict[str, Any]:
        """The loss curve of a run, thinned, and its judgements."""
        with Record(work.state) as record:
            losses = record.training.losses(number)
            judged = [{"step": step, "scores": scores} for step, scores in record.training.judgements(number)]
        every = max(1, len(losses) // MOST_POINTS)
        return {"points": [[one.step, one.loss] for one in losses[::every]], "judged": judged}

    return router
