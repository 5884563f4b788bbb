"""The worker of a spool: draws what lies in it, one plan after another, and ends when nothing came for a while.

`python -m sosie.api.workers.spool_worker SPOOL ROLE`. Exit code 75: another one has the spool.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.api.faces import SessionFaces
from sosie.core import Plan, Render
from sosie.core.errors import EngineError, LostError, SosieError
from sosie.core.schema import from_table
from sosie.engines import scheme_of
from sosie.engines.far.frames import Frame
from sosie.engines.far.spool import Spool, SpoolRole, render_frame
from sosie.engines.resident import BUSY
from sosie.engines.resident_protocol import error_table
from sosie.engines.scheme import Supplies
from sosie.files.lock import HeldError, held
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

if TYPE_CHECKING:
    from PIL.Image import Image

GLANCE = 0.1
EVERY = 0.25
"""Seconds between two notes of progress."""


class OtherFilesError(Exception):
    """A name means another file than before: what the engine has read is not what is asked for."""


class SpoolWorker:
    """One engine for one spool."""

    def __init__(self, spool: Spool, role: SpoolRole) -> None:
        self._spool = spool
        self._role = role
        self._files: dict[str, Path] = {}
        self._seen: dict[str, str] = {}
        self._given: Image | None = None
        self._session = Session(open_workspace(Path(role.workspace)))
        supplies = Supplies(self._files, SessionFaces(self._session, self._files), self._source, role.settings)
        self._engine = scheme_of(role.engine).open(role.engine, supplies)

    def serve(self) -> None:
        """Until nothing came for `role.idle` seconds. Raises `LostError`, `OtherFilesError`: a new one begins."""
        with closing(self._engine):
            until = time.monotonic() + self._role.idle
            while time.monotonic() < until:
                waiting = self._spool.waiting()
                if not waiting:
                    time.sleep(GLANCE)
                    continue
                self._draw(waiting[0])
                until = time.monotonic() + self._role.idle

    def _draw(self, plan_id: str) -> None:
        """Draws one plan; whatever goes wrong is its result, but for the loss of the card, which is the process's."""
        frame = self._spool.request(plan_id)
        if frame is None:
            return
        try:
            self._spool.tell({"id": plan_id, "phase": "load", "step": 0, "steps": 1})
            self._work(plan_id, frame)
        except (LostError, OtherFilesError):
            raise
        except Exception as error:
            if not isinstance(error, SosieError):
                traceback.print_exc()
                error = EngineError(f"the engine failed: {type(error).__name__}: {error}")
            self._spool.put(plan_id, error_table(error))

    def _work(self, plan_id: str, frame: Frame) -> None:
        table, pixels = frame
        plan = Plan.from_json(table["plan"])
        if plan.id != plan_id:
            raise EngineError(f"the plan {plan_id[:12]} came as {plan.id[:12]}")
        self._learn({str(name): Path(path) for name, path in table["files"].items()}, plan)
        self._given = _image(table, pixels) if plan.source else None
        told = 0.0
        events: Any = self._engine.run([plan])
        with closing(events):
            for event in events:
                if isinstance(event, Render):
                    self._spool.put(plan_id, *render_frame(event))
                elif time.monotonic() - told > EVERY:
                    told = time.monotonic()
                    self._spool.tell({"id": plan_id, "phase": event.what, "step": event.done, "steps": event.total})
                    if not self._spool.is_wanted(plan_id):
                        return

    def _learn(self, files: Mapping[str, Path], plan: Plan) -> None:
        facts = {asset.name: f"{files.get(asset.name)} {asset.sha256}" for asset in plan.assets}
        if any(self._seen.get(name, fact) != fact for name, fact in facts.items()):
            raise OtherFilesError
        self._seen |= facts
        self._files.clear()
        self._files.update(self._session.reference_paths(plan.character))
        self._files.update(files)

    def _source(self, pixels: str) -> Image:
        if self._given is None:
            raise EngineError(f"the image {pixels[:12]} to work on was not sent")
        return self._given


def _image(table: Mapping[str, Any], pixels: bytes) -> Image:
    from PIL import Image

    width, height = map(int, table["size"])
    if len(pixels) != width * height * 3:
        raise EngineError("the image to work on came incomplete")
    return Image.frombytes("RGB", (width, height), pixels)


def main() -> None:
    """The worker of the spool and the role of the command line."""
    spool = Spool(Path(sys.argv[1]))
    role = from_table(SpoolRole, json.loads(sys.argv[2]), "role")
    try:
        with held(spool.lock):
            SpoolWorker(spool, role).serve()
    except HeldError:
        sys.exit(BUSY)
    except OtherFilesError:
        sys.exit(0)
    except LostError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
