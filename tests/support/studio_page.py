"""A studio's page that is asked as a browser does, without a server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asgi import Answer, ask

from sosie.servers.pages.guard import TOKEN, App, Doors, Guard
from sosie.servers.pages.key import Key
from sosie.store import StoredRender
from sosie.studio.app import LARGER, shell, studio_app
from sosie.studio.desk import Desk

HOST = "127.0.0.1:7860"
KEY = Key("secret")
READ = {"host": HOST, "cookie": f"sosie-7860={KEY.cookie}"}
WRITE = {**READ, "origin": f"http://{HOST}", TOKEN: KEY.header}


@dataclass(frozen=True)
class Studio:
    """A page that is asked as a browser does, without a server, and what it stands on."""

    app: App
    desk: Desk
    root: Path
    stored: list[StoredRender]

    def get(self, path: str) -> Answer:
        return ask(self.app, path, headers=READ)

    def post(self, path: str, body: Any) -> Answer:
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        pieces = [body if isinstance(body, bytes) else json.dumps(body).encode()]
        return ask(self.app, path, "POST", {**WRITE, "content-type": kind}, pieces)

    def json(self, path: str, body: Any = None) -> Any:
        answer = self.get(path) if body is None else self.post(path, body)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)


def guarded(desk: Desk) -> App:
    """The page of a desk, as it is served."""
    return Guard(studio_app(desk), Doors((HOST,), frozenset(shell()), KEY, larger=LARGER))
