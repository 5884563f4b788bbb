"""The page's routes (FastAPI): the shell that is the same for everybody, and for who has the key, pairs and votes.

No request names a file, a digest or a cell. An image is asked for by who sees it and where: so the two sides of an
identical pair, and a pair that comes again, have addresses of their own, and the page itself cannot tell.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from sosie.core.errors import StoreError
from sosie.panels.votes import Choice
from sosie.servers.pages.panel.ballot import Ballot, RefusedVoteError, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
}
"""By the files' own names: what a system says of `.js` is not asked."""


class GivenVote(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    place: int = Field(ge=0, le=100_000)
    choice: Choice
    milliseconds: int = Field(ge=0, le=86_400_000)


def shell() -> Mapping[str, tuple[str, bytes]]:
    """The files that need no key, by path: type and content."""
    folder = resources.files("sosie.servers.pages.panel") / "static"
    found = {
        f"/static/{file.name}": (TYPES[file.name.rpartition(".")[2]], file.read_bytes()) for file in folder.iterdir()
    }
    return {"/": found["/static/index.html"], **found}


def panel_app(ballot: Ballot) -> FastAPI:
    """The application without its guard. It documents itself to nobody."""
    app = FastAPI(title="Sosie", openapi_url=None, docs_url=None, redoc_url=None)
    page = _Page(ballot)
    for path in page.shell:
        app.add_api_route(path, page.file, methods=["GET"])
    app.add_api_route("/api/panel", page.about, methods=["GET"])
    app.add_api_route("/api/references/{place}", page.reference, methods=["GET"])
    app.add_api_route("/api/people", page.begin, methods=["POST"])
    app.add_api_route("/api/people/{person}", page.standing, methods=["GET"])
    app.add_api_route("/api/people/{person}/images/{place}/{side}", page.image, methods=["GET"])
    app.add_api_route("/api/people/{person}/votes", page.vote, methods=["POST"])
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(KeyError, _not_there)
    app.add_exception_handler(RefusedVoteError, _refused)
    app.add_exception_handler(StoreError, _not_stored)
    return app


class _Page:
    """The answers to each request."""

    def __init__(self, ballot: Ballot) -> None:
        self._ballot = ballot
        self.shell = shell()

    def file(self, request: Request) -> Response:
        kind, content = self.shell[request.url.path]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    def about(self) -> dict[str, object]:
        panel = self._ballot.folder.panel
        return {"question": panel.question, "pairs": len(panel.pairs), "references": len(panel.references)}

    def reference(self, place: int) -> Response:
        references = self._ballot.folder.panel.references
        if place not in range(len(references)):
            raise HTTPException(404)
        return _png(self._ballot.folder.image(references[place]))

    def begin(self) -> dict[str, object]:
        return {"person": self._ballot.begin()}

    def standing(self, person: str) -> Standing:
        return self._ballot.standing(person)

    def image(self, person: str, place: int, side: Literal["left", "right"]) -> Response:
        return _png(self._ballot.image(person, place, side))

    def vote(self, person: str, given: GivenVote) -> Standing:
        return self._ballot.vote(person, given.place, given.choice, given.milliseconds)


def _png(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _plain(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return Response(HTTPStatus(status).phrase, status, media_type="text/plain")


def _not_understood(_request: Request, _error: Exception) -> Response:
    return Response("this is not what the page sends", 422, media_type="text/plain")


def _not_there(_request: Request, _error: Exception) -> Response:
    return Response("there is no such thing here", 404, media_type="text/plain")


def _refused(_request: Request, error: Exception) -> Response:
    return Response(str(error), 409, media_type="text/plain")


def _not_stored(_request: Request, _error: Exception) -> Response:
    return Response("the vote could not be stored, or the image is gone", 507, media_type="text/plain")
