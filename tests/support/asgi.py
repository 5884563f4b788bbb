"""Asking an ASGI application one thing, as a browser or somebody else would, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sosie.servers.pages.guard import App


@dataclass(frozen=True)
class Answer:
    """Status (of a refused websocket its close code), headers by small names, and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    app: App,
    path: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    body: Sequence[bytes] = (b"",),
    kind: str = "http",
) -> Answer:
    """The answer to one request; `body` comes in these pieces."""
    sent: list[dict[str, Any]] = []
    left = list(body)
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    bare, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws" if kind == "websocket" else "http",
        "path": bare,
        "raw_path": bare.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8765),
        "subprotocols": [],
    }
    if kind == "http":
        scope["method"] = method

    async def receive() -> dict[str, Any]:
        if kind == "websocket":
            return {"type": "websocket.connect"}
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(app(scope, receive, send))
    first = sent[0]
    if kind == "websocket":
        return Answer(first.get("code", 101), {}, b"")
    names = {name.decode().lower(): value.decode() for name, value in first["headers"]}
    return Answer(first["status"], names, b"".join(one.get("body", b"") for one in sent[1:]))
