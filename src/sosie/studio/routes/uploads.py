"""Pictures and files that are dropped on the page: kept under our own names, opened apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sosie.api.views.images import line_of
from sosie.api.views.settings import settings_of, settings_of_recipe
from sosie.files.images import MAX_BYTES
from sosie.studio.asked import Digest
from sosie.studio.desk import Desk

LARGER = (("/api/uploads", MAX_BYTES),)
"""Bodies that may be larger than others, by path."""

BYTES = "application/octet-stream"
RAW = {"requestBody": {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}}
"""What the document of the routes says of a body that is a file and nothing else."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, places = APIRouter(prefix="/api"), desk.places

    @router.post("/uploads", openapi_extra=RAW)
    async def upload(request: Request) -> dict[str, Any]:
        """Takes a picture (the body): its digest, its size, and the settings that made it, as far as they are known."""
        async with places:
            with desk.received("") as path:
                await receive(request, path)
                return await run_in_threadpool(_taken, desk, path)

    @router.get("/uploads/{sha256}", response_class=Response)
    def uploaded(sha256: Digest, w: int = 320) -> Response:
        """A WebP copy of an uploaded picture."""
        return Response(desk.small(desk.upload_path(sha256), sha256, w), media_type="image/webp")

    return router


async def receive(request: Request, path: Path) -> None:
    """The body into the file; the guard has bounded it."""
    with path.open("xb") as file:
        async for piece in request.stream():
            await run_in_threadpool(file.write, piece)


def _taken(desk: Desk, path: Path) -> dict[str, Any]:
    taken = desk.take(path)
    with desk.gallery() as gallery:
        own = gallery.of_pixels(str(taken["pixels"]))
        recipe = ""
        if own is None:
            plan, recipe = desk.trace(path)
            own = gallery.of_plan(plan) if plan else None
        settings = settings_of(gallery, own) if own is not None else taken["settings"] or settings_of_recipe(recipe)
    kept = {name: taken[name] for name in ("sha256", "width", "height", "notes")}
    return {**kept, "own": line_of(own) if own is not None else None, "settings": settings}
