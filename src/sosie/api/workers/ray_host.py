"""A host of a Ray cluster: the engine of one card there, in the driver's workspace or in one of its own.

Who sees the driver's folder works in the driver's workspace. Another host has a workspace of its own (the folder that
`SOSIE_WORKSPACE` names where `ray start` was called), with the same files under the same names: digests are compared.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.api.faces import SessionFaces
from sosie.core import Plan, Render
from sosie.core.errors import ConfigError, EngineError, NotFoundError, SosieError
from sosie.core.schema import from_table, to_table
from sosie.engines import scheme_of
from sosie.engines.ray.actor import seen
from sosie.engines.ray.engine import Order, image_in
from sosie.engines.resident_protocol import error_table, render_facts
from sosie.engines.scheme import Supplies
from sosie.files.digest import file_digest
from sosie.workspace.bill import resolve
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from PIL.Image import Image

SECONDS = 0.25
"""Between two reports of progress: each is a message to the driver."""


class Host:
    """One engine on one card. `order` is the table of an `engines.ray.engine.Order`."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._order = from_table(Order, order, "order")
        self._sees = seen(self._order.folder, self._order.token)
        self._workspace = open_workspace(Path(self._order.root)) if self._sees else own_workspace()
        self._files: dict[str, Path] = {}
        self._given: Image | None = None
        faces = SessionFaces(Session(self._workspace), self._files)
        supplies = Supplies(self._files, faces, self._source, self._order.settings)
        self._engine = scheme_of(self._order.engine).open(self._order.engine, supplies)

    def answers(self, request: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """What the engine has to say to a request: its name, its checks of a plan, or the plan's events."""
        if request["do"] == "name":
            yield {"say": "name", "name": self._engine.name, "sees": self._sees}
            return
        plan = Plan.from_json(request["plan"])
        self._files.clear()
        self._files.update(self._located(plan))
        if request["do"] == "check":
            yield {"say": "findings", "findings": to_table(tuple(self._engine.check(plan)))}
            return
        self._given = image_in(dict(request), Path(self._order.folder)) if plan.source else None
        told = 0.0
        for event in self._engine.run([plan]):
            if isinstance(event, Render):
                yield self._sent(event)
            elif time.monotonic() - told > SECONDS:
                told = time.monotonic()
                yield {"say": "progress", "phase": event.what, "step": event.done, "steps": event.total}

    def _source(self, pixels: str) -> Image:
        if self._given is None:
            raise EngineError(f"the image {pixels[:12]} to work on was not sent")
        return self._given

    def _located(self, plan: Plan) -> Mapping[str, Path]:
        """Where the plan's files are. In a workspace of this host's they must be those that the plan means."""
        if self._sees:
            return {name: Path(path) for name, path in self._order.files.items()}
        bill = resolve(self._workspace, plan.stages, plan.character)
        for asset in plan.assets:
            if bill[asset.name].sha256 != asset.sha256:
                raise NotFoundError(
                    f"'{asset.name}' in {self._workspace.root} is another file than the driver's",
                    "copy the driver's file there; sosie model list shows where it is",
                )
        folder = self._workspace.character_folder(plan.character.name)
        for reference in plan.character.references:
            path = folder / reference.file
            if not path.is_file() or file_digest(path) != reference.sha256:
                raise NotFoundError(
                    f"{path} is not the reference that the driver has of '{plan.character.name}'",
                    f"copy the driver's folder of '{plan.character.name}' to {folder.parent}",
                )
        return bill.paths

    def _sent(self, render: Render) -> dict[str, Any]:
        """A render as a message; its pixels go to the driver's folder, where that is seen."""
        pixels = render.image.convert("RGB").tobytes()
        name = f"{render.plan.id}-{os.getpid()}" if self._sees else ""
        if name:
            (Path(self._order.folder) / name).write_bytes(pixels)
        return {
            "say": "render",
            **render_facts(render),
            "file": name,
            "pixels": b"" if name else pixels,
        }


def own_workspace() -> Workspace:
    """The workspace of this host. Raises `ConfigError` where none was named."""
    named = os.environ.get("SOSIE_WORKSPACE")
    if not named:
        raise ConfigError(
            "this host does not see the driver's workspace, and has none of its own",
            "SOSIE_WORKSPACE=FOLDER ray start ..., with the models and the character's folder in it",
        )
    return open_workspace(Path(named))


def answer_of(error: Exception) -> dict[str, Any]:
    """An error as the last answer; one that nobody foresaw is in Ray's log of this process, too."""
    if isinstance(error, SosieError):
        return error_table(error)
    traceback.print_exception(error, file=sys.stderr)
    return error_table(EngineError(f"the engine failed: {type(error).__name__}: {error}"))
