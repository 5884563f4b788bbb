"""Pictures and files that are dropped on the page: kept under our own names, opened apart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sosie.api.doctor import examine
from sosie.api.lines import json_of
from sosie.api.needs import Examination
from sosie.api.views.images import line_of
from sosie.api.views.settings import settings_of, settings_of_recipe
from sosie.files.images import MAX_BYTES
from sosie.studio.asked import Digest
from sosie.studio.desk import Desk

MOST_BYTES = 4 << 30
"""Of a file for the doctor; a larger one is named on the command line, where nothing is copied."""

LARGER = (("/api/uploads", MAX_BYTES), ("/api/doctor", MOST_BYTES))
"""Bodies that may be larger than others, by path."""

AT_ONCE = 4
"""Uploads that are received at a time."""

SUFFIXES = Literal["safetensors", "gguf", "ckpt", "pth", "pt", "bin", "onnx", "json", "png", "toml"]


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, places = APIRouter(prefix="/api"), asyncio.Semaphore(AT_ONCE)

    @router.post("/uploads")
    async def upload(request: Request) -> dict[str, Any]:
        """Takes a picture (the body): its digest, its size, and the settings that made it, as far as they are known."""
        async with places:
            with desk.received("") as path:
                await _receive(request, path)
                return await run_in_threadpool(_taken, desk, path)

    @router.get("/uploads/{sha256}", response_class=Response)
    def uploaded(sha256: Digest, w: int = 320) -> Response:
        """A WebP copy of an uploaded picture."""
        return Response(desk.small(desk.upload_path(sha256), sha256, w), media_type="image/webp")

    @router.post("/doctor")
    async def diagnose(request: Request, suffix: SUFFIXES = "safetensors") -> dict[str, Any]:
        """What the doctor says of a file (the body), whose name ended so."""
        async with places:
            with desk.received(f".{suffix}") as path:
                await _receive(request, path)
                found = await run_in_threadpool(desk.examine, path)
                return _without_path(found, path)

    @router.get("/doctor/machine")
    def machine() -> dict[str, Any]:
        """What the doctor says of this machine."""
        return {"checkups": [json_of(one) for one in examine(desk.workspace, (), Examination())]}

    return router


async def _receive(request: Request, path: Path) -> None:
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


def _without_path(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """The answer without our own name for the file: the page knows what it was called."""
    return _cleared(found, (str(path.absolute()), str(path), path.name))


def _cleared(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        for name in names:
            value = value.replace(name, "the file")
        return value
    if isinstance(value, list):
        return [_cleared(one, names) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _cleared(one, names) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
