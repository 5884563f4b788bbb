"""Characters that travel: to a file that the browser saves, and from one that it sends."""

from __future__ import annotations

import shutil
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from sosie.api.character_files import export_character
from sosie.studio.asked import Name
from sosie.studio.desk import Desk
from sosie.studio.routes.uploads import RAW, receive
from sosie.workspace.workspace import check_name

LARGER = (("/api/characters/file", 4 << 30),)
"""Bodies that may be larger than others, by path: a character with its LoRAs."""

UNPACKING = 300.0
"""Seconds that an archive may take."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router = APIRouter(prefix="/api/characters")

    @router.get("/{name}/file", response_class=FileResponse)
    def export(name: Name, loras: bool = False) -> FileResponse:
        """The character as one file, as `sosie character export` writes it; with its LoRAs, or with their digests."""
        folder = desk.a_folder()
        try:
            made = export_character(desk.workspace, name, folder / f"{check_name(name)}.sosie", loras)
        except BaseException:
            shutil.rmtree(folder)
            raise
        away = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        return FileResponse(made.path, media_type="application/zip", filename=made.path.name, background=away)

    @router.post("/file", openapi_extra=RAW)
    async def take_in(
        request: Request,
        name: Annotated[str, Query(max_length=64)] = "",
        likeness: Literal["", "fictional", "consented"] = "",
        adult: bool = False,
    ) -> dict[str, Any]:
        """Makes a character of a file (the body) of `sosie character export`, by another name if one is given.

        A file of OpenChar (.char) declares neither likeness nor age: both are the user's, and are needed for it alone.
        """
        async with desk.places:
            with desk.received(".sosie") as path:
                await receive(request, path)
                asked = {"path": str(path), "name": name, "likeness": likeness, "adult": adult}
                return await run_in_threadpool(lambda: desk.apart("take_character", UNPACKING, **asked))

    return router
