"""Training: sets with captions that are edited in place, and runs with their curves."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from sosie.api import Session, json_of
from sosie.api.jobs.queue import open_jobs
from sosie.api.views.sets import change_caption, describe_set, set_path
from sosie.api.views.trainings import ask_run, describe_training, list_trainings, sample_path
from sosie.files.digest import file_digest
from sosie.studio.asked import Caption, Digest, Name, Row, Wished
from sosie.studio.desk import Desk
from sosie.studio.routes.images import FOR_EVER

FOR_A_WHILE = {"cache-control": "private, max-age=30"}
"""Of a sample, which is drawn anew where a run goes back to an earlier state."""


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
        """Every training run on record, failed ones too, the newest first, and whether it goes on or can."""
        open_jobs(work).close()
        return list_trainings(work)

    @router.get("/training/{number}/curve")
    def curve(number: Row) -> dict[str, Any]:
        """A run with its loss curve, thinned, its judgements, and how many samples there are of each step."""
        return describe_training(work, number)

    @router.get("/training/{number}/samples/{step}/{place}", response_class=Response)
    def sample(number: Row, step: Row, place: Row, w: int = 320) -> Response:
        """A WebP copy of a sample of a run."""
        path = sample_path(work, number, step, place)
        return Response(desk.small(path, file_digest(path), w), media_type="image/webp", headers=FOR_A_WHILE)

    @router.post("/training/{number}/ask")
    def wish(number: Row, asked: Wished) -> dict[str, Any]:
        """Has a run that goes on draw samples, or end and deliver its best, after its next step."""
        return json_of(ask_run(work, number, asked.wish))

    return router
