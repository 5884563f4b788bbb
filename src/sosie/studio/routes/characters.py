"""Characters: who they are, their references, and new ones of uploaded pictures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from sosie import __version__
from sosie.api import CharacterFile, Session, edit_character, json_of, list_recipes, load_recipe, new_character
from sosie.api.views.characters import describe_character, list_characters, reference_path
from sosie.core.errors import SosieError
from sosie.studio.asked import Digest, Line, Name, NewCharacter, Words
from sosie.studio.desk import Desk
from sosie.studio.routes.images import FOR_EVER
from sosie.workspace.workspace import check_name

LOOKING = 300.0
"""Seconds that the nets of faces may look at a character's pictures."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, work = APIRouter(prefix="/api"), desk.workspace

    @router.get("/studio")
    def studio() -> dict[str, Any]:
        """Which workspace this is, and the newest event of the queue."""
        return {"version": __version__, "workspace": work.root.absolute().name, "newest": desk.newest}

    @router.get("/recipes")
    def recipes() -> list[dict[str, Any]]:
        """Every recipe, with what the page needs of it; one that is wrong says what."""
        return [_recipe(name) for name in list_recipes(work)]

    def _recipe(name: str) -> dict[str, Any]:
        try:
            found = load_recipe(work, name)
        except SosieError as error:
            return {"name": name, "error": error.message}
        stages = [{"kind": stage.kind, "family": stage.family} for stage in found.stages]
        size = {"width": found.width, "height": found.height}
        return {"name": name, **size, "stages": stages, "trains": found.training is not None, "error": ""}

    @router.get("/characters")
    def characters() -> list[dict[str, Any]]:
        """Every character, the first reference of each among what is said."""
        return list_characters(work)

    @router.get("/characters/{name}")
    def character(name: Name) -> dict[str, Any]:
        """A character: declarations, description, references, LoRAs, and what became of its images."""
        return describe_character(work, name)

    @router.get("/characters/{name}/references/{sha256}", response_class=Response)
    def reference(name: Name, sha256: Digest, w: int = 320, face: bool = False) -> Response:
        """A WebP copy of a reference."""
        content = desk.small(reference_path(work, name, sha256), sha256, w, face)
        return Response(content, media_type="image/webp", headers=FOR_EVER)

    @router.get("/characters/{name}/calibration")
    async def calibration(name: Name, recipe: Line = "") -> dict[str, Any]:
        """The same person against impostors, by each judge, and the thresholds between them."""
        async with desk.places:
            ask = lambda: desk.apart("calibration", LOOKING, name=check_name(name), recipe=recipe)  # noqa: E731
            return await run_in_threadpool(ask)

    @router.post("/characters")
    def new(asked: NewCharacter) -> dict[str, Any]:
        """A character of uploaded pictures; what was left out, and why, is among the findings."""
        details = CharacterFile(asked.name, asked.likeness, asked.adult, asked.description, "", tuple(asked.marks))
        with Session(work) as session:
            return json_of(new_character(session, details, [desk.upload_path(one) for one in asked.images]))

    @router.post("/characters/{name}/words")
    def words(name: Name, asked: Words) -> dict[str, Any]:
        """Gives a character another description and other marks."""
        edit_character(work, name, asked.description, asked.marks)
        return describe_character(work, name)

    return router
