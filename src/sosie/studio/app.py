"""The application without its guard: the shell that is the same for everybody, and the routes, a file a subject."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sosie import __version__
from sosie.core.errors import MissingExtraError, NotFoundError, SosieError, StoreError
from sosie.studio.children import RefusedFileError
from sosie.studio.desk import Desk
from sosie.studio.routes import archives, characters, doctor, experiments, images, jobs, machines, training, uploads
from sosie.studio.spoken import Spoken

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}
"""By the files' own names: what a system says of `.js` is not asked."""

LARGER = (*uploads.LARGER, *archives.LARGER, *doctor.LARGER)
"""Bodies that may be larger than others, by path."""

OPENAPI = "/api/openapi.json"

STATUS: Mapping[type[Exception], int] = {
    NotFoundError: 404,
    RefusedFileError: 422,
    MissingExtraError: 501,
    StoreError: 507,
}
"""Of errors for the user; others say that things do not fit as they are (409)."""


def shell() -> Mapping[str, tuple[str, bytes]]:
    """The files that need no key, by path: type and content."""
    root = resources.files("sosie.studio") / "static"
    found = {f"/static/{name}": (TYPES[name.rpartition(".")[2]], file.read_bytes()) for name, file in _files(root, "")}
    return {"/": found["/static/index.html"], **found}


def studio_app(desk: Desk) -> FastAPI:
    """The routes on a desk. The OpenAPI document is for who has the key; there is no page about it."""
    app = FastAPI(title="Sosie", version=__version__, openapi_url=OPENAPI, docs_url=None, redoc_url=None)
    app.router.default_response_class = Spoken
    files = shell()

    def file(request: Request) -> Response:
        kind, content = files[request.url.path]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    for path in files:
        app.add_api_route(path, file, methods=["GET"], include_in_schema=False)
    for subject in (archives, characters, doctor, experiments, images, jobs, machines, training, uploads):
        app.include_router(subject.routes(desk))
    app.add_exception_handler(SosieError, _told)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _plain)
    return app


def _files(folder: Traversable, before: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files(entry, f"{before}{entry.name}/")
        elif entry.name.rpartition(".")[2] in TYPES:
            found.append((f"{before}{entry.name}", entry))
    return found


def _told(_request: Request, error: Exception) -> Response:
    """What went wrong, in the words that the command line has for it, and in French."""
    assert isinstance(error, SosieError)  # noqa: S101 - what it is called for
    code: str = getattr(error, "code", "")
    return Spoken({"error": error.message, "hint": error.hint, "code": code}, STATUS.get(type(error), 409))


def _not_understood(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is called for
    places = [".".join(map(str, one["loc"])) for one in error.errors()[:3]]
    return Spoken({"error": f"this is not what is expected: {', '.join(places)}", "hint": OPENAPI}, 422)


def _plain(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return Spoken({"error": HTTPStatus(status).phrase, "hint": ""}, status)
