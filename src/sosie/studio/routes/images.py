"""The images of the store: windows of them, each by its digest, and what people say of them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Response
from fastapi import Query as InQuery

from sosie.api.views.export import exported
from sosie.api.views.images import describe_image, line_of, say_of
from sosie.store.gallery import Query
from sosie.studio.asked import Digest, Filter, Saying, Window
from sosie.studio.desk import Desk
from sosie.workspace.session import Session

FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
"""What a digest names never changes."""


def routes(desk: Desk) -> APIRouter:
    """The routes on a desk."""
    router = APIRouter()

    @router.get("/api/images")
    def window(asked: Annotated[Window, InQuery()]) -> dict[str, Any]:
        """A window of the images of a filter, and how many there are in all."""
        query = query_of(asked)
        with desk.gallery() as gallery:
            rows = gallery.window(query, asked.start, asked.count)
            return {"total": gallery.count(query), "start": asked.start, "images": [line_of(one) for one in rows]}

    @router.get("/api/images/choices")
    def choices() -> dict[str, list[str]]:
        """What there is to filter by."""
        with desk.gallery() as gallery:
            return gallery.choices()

    @router.get("/api/images/{sha256}")
    def one(sha256: Digest) -> dict[str, Any]:
        """An image with its plan: everything that made it."""
        with desk.gallery() as gallery:
            return describe_image(gallery, sha256)

    @router.get("/api/images/{sha256}/file", response_class=Response)
    def export(sha256: Digest, metadata: bool = False) -> Response:
        """The image as a PNG with a signed manifest, to give away; with A1111's text, if asked for."""
        with Session(desk.workspace) as session:
            name, content = exported(session, sha256, metadata)
        disposition = {"content-disposition": f"attachment; filename*=utf-8''{quote(name)}"}
        return Response(content, media_type="image/png", headers=disposition)

    @router.post("/api/opinions")
    def say(asked: Saying) -> dict[str, int]:
        """Puts a person's verdict beside the machine's, which stays as it is."""
        query = query_of(asked.filter) if asked.filter is not None else None
        with desk.gallery() as gallery:
            return {"said": say_of(gallery, asked.images, query, asked.verdict, asked.stars)}

    @router.get("/i/{sha256}", response_class=Response)
    def picture(sha256: Digest, w: int | None = None, face: bool = False) -> Response:
        """The stored PNG of a digest, or a WebP copy with no side above `w`; of its face, with `face`."""
        path = desk.stored_path(sha256)
        if w is None:
            return Response(path.read_bytes(), media_type="image/png", headers=FOR_EVER)
        return Response(desk.small(path, sha256, w, face), media_type="image/webp", headers=FOR_EVER)

    return router


def query_of(asked: Filter) -> Query:
    """The query of a filter."""
    return Query(**asked.model_dump(exclude={"start", "count"}))
