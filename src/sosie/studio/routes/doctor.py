"""The doctor: files that are dropped on the page, of which only what is read leaves the browser; and this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from sosie.api.views.dropped import HOLDER, PART, machine_at_a_glance, mended_path
from sosie.studio.asked import Digest
from sosie.studio.desk import Desk
from sosie.studio.routes.uploads import BYTES, RAW, receive

MOST_BYTES = 4 << 30
"""Of a whole file; a larger one is mended by the command line, where nothing is copied."""

MOST_PIECES = 160 << 20
"""Of the parts of a file: a pickle of torch's old format is sent whole up to 128 MiB."""

LARGER = (("/api/doctor", MOST_BYTES), ("/api/doctor/mend", MOST_BYTES), ("/api/doctor/pieces", MOST_PIECES))
"""Bodies that may be larger than others, by path."""

PIECEWISE = Literal["safetensors", "sft", "gguf", "ckpt", "pth", "pt", "bin"]
WHOLE = Literal["safetensors", "sft", "gguf", "ckpt", "pth", "pt", "bin", "onnx", "json", "png", "toml"]


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router, places = APIRouter(prefix="/api/doctor"), desk.places

    async def work(request: Request, suffix: str, do: str, size: int = 0) -> dict[str, Any]:
        async with places:
            with desk.received(f".{suffix}") as path:
                await receive(request, path)
                found = await run_in_threadpool(desk.consult, do, path, size)
                return _cleared(found, _own_names(desk, path, str(found.get("sha256", ""))))

    @router.post("", openapi_extra=RAW)
    async def diagnose(request: Request, suffix: WHOLE = "safetensors") -> dict[str, Any]:
        """What the doctor says of a file (the body), whose name ended so, and what mends it."""
        return await work(request, suffix, "examine")

    @router.post("/pieces", openapi_extra=RAW)
    async def pieces(
        request: Request, size: Annotated[int, Query(ge=0, le=1 << 42)], suffix: PIECEWISE = "safetensors"
    ) -> dict[str, Any]:
        """The same of parts of a file of `size` bytes, or the ranges that are `wanted`: ask again with all of them.

        The body: four bytes (little endian), the length of a JSON list of [start, length]; the list; the ranges' bytes.
        """
        return await work(request, suffix, "pieces", size)

    @router.post("/mend", openapi_extra=RAW)
    async def mend(request: Request, suffix: WHOLE = "safetensors") -> dict[str, Any]:
        """Converts a file (the body), exactly, into `outputs/mended`: its digest, and what the doctor says of it."""
        return await work(request, suffix, "mend")

    @router.get("/mended/{sha256}", response_class=Response)
    def mended(sha256: Digest) -> Response:
        """A file that was mended."""
        path = mended_path(desk.workspace, sha256)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, media_type=BYTES, filename=path.name)

    @router.get("/machine")
    def machine() -> dict[str, Any]:
        """The machine at a glance, and what the doctor says of it."""
        return machine_at_a_glance(desk.workspace)

    return router


def _own_names(desk: Desk, path: Path, mended: str) -> tuple[str, ...]:
    """What we call a file that was dropped, its parts, and what was made of it; the longest first."""
    kept = mended_path(desk.workspace, mended) if mended else None
    names = [] if kept is None else [str(kept.absolute()), str(kept), kept.name]
    return (
        *names,
        str(path.absolute()),
        str(path),
        path.name,
        f"{HOLDER}:/{PART}{path.suffix}",
        f"{PART}{path.suffix}",
    )


def _cleared(value: Any, names: tuple[str, ...]) -> Any:
    """The answer without our own name for the file: the page knows what it was called."""
    if isinstance(value, str):
        for name in names:
            value = value.replace(name, "the file")
        return value
    if isinstance(value, list):
        return [_cleared(one, names) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _cleared(one, names) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
