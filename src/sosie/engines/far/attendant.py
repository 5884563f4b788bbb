"""The attendant of a spool, on its machine: takes plans from stdin into it, gives out on stdout what was drawn.

`python -m sosie.engines.far.attendant SPOOL ROLE`, started by ssh and ended with its line. The worker, which it starts
where none is there, goes on without it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sosie import __version__
from sosie.core.errors import EngineError, LostError, SosieError
from sosie.engines.far.frames import Frame, Frames, packed
from sosie.engines.far.spool import Spool
from sosie.engines.resident_protocol import error_table
from sosie.files.lock import HeldError, held
from sosie.machines.variables import needed

MODULE = "sosie.api.workers.spool_worker"
GLANCE = 0.05
BEAT = 2.0
"""Seconds between two signs of life."""

DEATHS = 3
"""So many workers in a row that end without a result are enough."""

TAIL = 2_000
LOG_BYTES = 1 << 20


class Attendant:
    """Serves one line. `words` starts a worker of this spool."""

    def __init__(self, spool: Spool, words: list[str]) -> None:
        self._spool = spool
        self._words = words
        self._wanted: dict[str, None] = {}
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._worker: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._told: dict[str, Any] = {}
        self._beat = 0.0

    def serve(self) -> None:
        """Until stdin ends, or nobody reads stdout."""
        self._spool.sweep()
        threading.Thread(target=self._listen, daemon=True).start()
        self._say({"say": "hello", "version": __version__})
        with suppress(BrokenPipeError):
            while self._take():
                self._give()
                self._keep_worker()

    def _listen(self) -> None:
        frames = Frames(lambda most: os.read(sys.stdin.fileno(), most))
        try:
            while (frame := frames.next()) is not None:
                self._frames.put(frame)
        except OSError:
            pass
        self._frames.put(None)

    def _take(self) -> bool:
        """Does what was asked meanwhile; False at the end of the line."""
        with suppress(queue.Empty):
            frame = self._frames.get(timeout=GLANCE)
            while True:
                if frame is None:
                    return False
                table, data = frame
                plan_id = str(table.get("id", ""))
                match table.get("do"):
                    case "draw":
                        self._spool.ask(plan_id, table, data)
                        self._wanted[plan_id] = None
                    case "forget":
                        self._spool.forget(plan_id)
                        self._wanted.pop(plan_id, None)
                    case "drop":
                        self._spool.drop(plan_id)
                    case _:
                        return False
                frame = self._frames.get_nowait()
        return True

    def _give(self) -> None:
        for plan_id in [one for one in self._wanted if self._spool.has_result(one)]:
            found = self._spool.result(plan_id)
            if found is not None:
                self._say({**found[0], "id": plan_id}, found[1])
                del self._wanted[plan_id]
                self._deaths = 0
        now = self._spool.now()
        if now != self._told and now.get("id") in self._wanted:
            self._told = now
            self._say({"say": "progress", **now})
        elif time.monotonic() - self._beat > BEAT:
            self._say({"say": "beat"})

    def _keep_worker(self) -> None:
        """Starts a worker where one is wanted and none is there."""
        if not self._wanted or (self._worker is not None and self._worker.poll() is None):
            return
        try:
            with held(self._spool.lock):
                pass
        except HeldError:
            return
        if self._worker is not None and (self._worker.returncode or not self._told):
            self._deaths += 1
        if self._deaths >= DEATHS:
            self._give_up()
            return
        log = self._spool.folder / "log"
        with log.open("ab") as out:
            if out.tell() > LOG_BYTES:
                out.truncate(0)
            self._worker = subprocess.Popen(  # noqa: S603 - this very Python
                self._words,
                env=needed(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _give_up(self) -> None:
        log = self._spool.folder / "log"
        lines = [line for line in log.read_bytes()[-TAIL:].decode("utf-8", "replace").splitlines() if line.strip()]
        first = self._spool.waiting()[:1] or list(self._wanted)[:1]
        error = LostError(
            f"its worker ended {DEATHS} times; the last it said: {(lines or ['nothing'])[-1][:200]}", f"look at {log}"
        )
        self._deaths = 0
        for plan_id in first:
            self._spool.put(plan_id, error_table(error))

    def _say(self, table: dict[str, Any], data: bytes = b"") -> None:
        rest = memoryview(packed(table, data))
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
        self._beat = time.monotonic()


def main() -> None:
    """The attendant of the spool and the role of the command line."""
    folder, role = Path(sys.argv[1]), sys.argv[2]
    json.loads(role)
    try:
        Attendant(Spool(folder), [sys.executable, "-P", "-m", MODULE, str(folder), role]).serve()
    except (SosieError, OSError) as error:
        told = error if isinstance(error, SosieError) else EngineError(f"{folder} cannot be used: {error}")
        sys.stderr.write(f"{told.message}\n")
        sys.exit(1)
    os._exit(0)  # the thread that reads stdin may hold its lock


if __name__ == "__main__":
    main()
