"""The engine `shards:FOLDER`: what machines drew of a manifest is judged and delivered here.

What is asked of it and not in the manifest, such as another attempt at an image that did not pass, becomes a shard of
its own, for any machine that still pulls.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sosie.core import Finding, Plan, Progress, Render
from sosie.core.errors import EngineError, LostError, UsageError
from sosie.core.feed import LONG, feed_of
from sosie.core.finding import Rule
from sosie.engines.far.frames import Frame
from sosie.engines.far.spool import read_render
from sosie.engines.resident_protocol import read_error
from sosie.engines.scheme import Scheme, Supplies
from sosie.engines.shards.claims import Claims
from sosie.engines.shards.manifest import Manifest

E044 = Rule("SOS-E044", "error", "Nothing was drawn of a manifest")

AHEAD = 8
GLANCE = 0.5
PATIENCE = 120.0
"""Seconds that a plan which nobody draws is waited for."""


class ShardsEngine:
    """Keeps the Engine protocol, under the name of the engine that drew."""

    def __init__(self, manifest: Manifest, supplies: Supplies, patience: float = PATIENCE) -> None:
        self._manifest = manifest
        self._supplies = supplies
        self._patience = patience
        self._claims = Claims(manifest.folder / "claims", "nobody")
        self._name = ""

    @property
    def name(self) -> str:
        """That of the engine that drew. Raises `EngineError` where nothing was drawn."""
        ids = (one for shard in self._manifest.shards() for one in self._manifest.ids(shard))
        tables = (frame[0] for one in ids if not self._name and (frame := self._result(one)))
        self._name = self._name or next((str(one["engine"]) for one in tables if one.get("say") == "render"), "")
        if self._name:
            return self._name
        folder = self._manifest.folder
        raise EngineError(f"nothing was drawn of the manifest {folder} yet", f"sosie worker draw {folder}")

    def check(self, plan: Plan) -> list[Finding]:  # noqa: ARG002
        """SOS-E044 where nothing was drawn."""
        try:
            _ = self.name
        except EngineError as error:
            return [E044.at(str(self._manifest.folder), error.message, error.hint)]
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Gives what was drawn, in order, and waits for the rest. Raises `LostError` where nobody draws that."""
        feed, waiting = feed_of(plans), list[Plan]()
        while waiting or not feed.ended:
            while len(waiting) < AHEAD and (plan := feed.take(0.0 if waiting else LONG)) is not None:
                self._ask(plan)
                waiting.append(plan)
            if waiting:
                yield from self._awaited(waiting.pop(0))

    def close(self) -> None:
        """Nothing is held."""

    def _ask(self, plan: Plan) -> None:
        if self._manifest.spool.has_result(plan.id):
            return
        if plan.source:
            self._manifest.add_source(plan.source, self._supplies.source(plan.source))
        self._manifest.add([plan])

    def _awaited(self, plan: Plan) -> Iterator[Progress | Render]:
        until = time.monotonic() + self._patience
        while (frame := self._result(plan.id)) is None:
            if self._is_drawn(plan):
                until = time.monotonic() + self._patience
            if time.monotonic() > until:
                folder = self._manifest.folder
                message = f"nobody draws plan {plan.id[:12]} of {folder}, for {self._patience:.0f} s"
                raise LostError(message, f"sosie worker draw {folder}; then the same command")
            yield Progress("queue", 0, 0)
            time.sleep(GLANCE)
        table, data = frame
        if table.get("say") == "error":
            raise read_error(table)
        yield read_render(table, data, plan)

    def _is_drawn(self, plan: Plan) -> bool:
        """Whether somebody is at the plan's shard."""
        shards = [shard for shard in self._manifest.shards() if plan.id in self._manifest.ids(shard)]
        standing = self._claims.standing()
        return any(shard in standing and self._claims.is_drawn(standing[shard]) for shard in shards)

    def _result(self, plan_id: str) -> Frame | None:
        with suppress(OSError):
            return self._manifest.spool.result(plan_id)
        return None


def _open(address: str, supplies: Supplies) -> ShardsEngine:
    folder = address.partition(":")[2]
    if not folder:
        raise UsageError(f"engine '{address}' names no folder", "--engine shards:FOLDER")
    return ShardsEngine(Manifest(Path(folder)), supplies)


SCHEME = Scheme("shards", "shards:FOLDER", _open, has_workers=True)
