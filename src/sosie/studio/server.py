"""Serving the studio: the desk, the guard before the routes, and the server, from the start to Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sosie.api.resident import dismiss_idle
from sosie.servers.pages.guard import Guard
from sosie.servers.pages.key import Key
from sosie.servers.pages.serving import Listening, address_of, bound, doors, serve
from sosie.studio.app import LARGER, shell, studio_app
from sosie.studio.desk import Desk
from sosie.workspace.workspace import Workspace


def serve_studio(workspace: Workspace, listening: Listening, ready: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted; `ready` gets the address, which holds the key.

    Raises `UsageError` where it cannot listen. At the end jobs are stopped, which can be continued, and the worker is
    ended if it has nothing to do.
    """
    with bound(listening) as listener:
        own = doors(listening, listener.getsockname()[1], frozenset(shell()), Key())
        desk = Desk(workspace)
        app = Guard(studio_app(desk), replace(own, larger=LARGER))

        def answers() -> None:
            desk.start()
            ready(address_of(own))

        try:
            serve(app, listener, answers, desk.end_streams)
        finally:
            desk.close()
            dismiss_idle(workspace)
