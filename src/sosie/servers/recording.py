"""Recordings of servers for bug reports."""

from __future__ import annotations

from typing import Any

from sosie.core.errors import UsageError
from sosie.engines.comfy.recording import record
from sosie.servers.address import reach
from sosie.workspace.workspace import Workspace


def record_server(address: str, workspace: Workspace, with_prompts: bool = False) -> dict[str, Any]:
    """A recording of one server without secrets (`engines.comfy.recording`).

    `address` is an http(s) address, or one of `comfy+ssh`, a pod of the workspace too. Raises `UsageError`, `SshError`,
    `ComfyError`.
    """
    with reach(address, workspace) as lines:
        if len(lines) != 1:
            raise UsageError("one server is recorded at a time", "sosie comfy record URL")
        server, line = lines[0].server, lines[0].remote
        return record(server, with_prompts, [line.host.address] if line else [])
