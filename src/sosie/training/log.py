"""The record of a run as it goes on: JSON lines in its folder, and the loggers next to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

from sosie.core import Finding, Progress
from sosie.core.schema import to_table
from sosie.files.whole import close_to_others, is_private, make_file, write_whole
from sosie.training.events import Event, Sampled, Stepped, Validated
from sosie.training.job import TrainingJob
from sosie.training.loggers import Loggers

FILE = "log.jsonl"


class Log:
    """Writes events as they come. `close` ends it.

    `log.jsonl` has one object a line with the key `event`; lines of steps that a resumed run does again
    are taken out first. TensorBoard is used where it is installed, with what `job.log_with` names. Raises
    `UsageError` if a logger that was named does not start.
    """

    def __init__(self, job: TrainingJob, step: int) -> None:
        path = job.folder / FILE
        _cut(path, step)
        make_file(path)
        self._folder = job.folder
        self._loggers = Loggers(job, step)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def told(self) -> list[Finding]:
        """The loggers' findings since the last call."""
        findings = list(self._loggers.findings)
        self._loggers.findings.clear()
        return findings

    def write(self, event: Event) -> None:
        """Records one event; pictures are not in it, their scores are."""
        table = _table(event)
        if table is None:
            return
        name = "noted" if isinstance(event, Finding) else type(event).__name__.lower()
        self._file.write(json.dumps({"event": name, **table}, allow_nan=True) + "\n")
        self._file.flush()
        if isinstance(event, Stepped):
            values = {"loss": event.loss, "gradient": event.gradient, "learning_rate": event.learning_rate}
            self._loggers.write(values, event.step)
        elif isinstance(event, Validated):
            self._loggers.write({f"validation/{name}": value for name, value in event.means.items()}, event.step)
        elif isinstance(event, Sampled) and event.scores is not None:
            scores = event.scores
            values = {f"identity/{entry.judge}": entry.value for entry in scores.identity}
            known = {"copy_paste": scores.copy_paste, "adherence": scores.adherence, "sound": scores.sound}
            values |= {name: value for name, value in known.items() if value is not None}
            self._loggers.write(values, event.step)

    def close(self) -> None:
        """Ends the file and the loggers."""
        self._file.close()
        self._loggers.close()
        if is_private(self._folder):
            close_to_others(self._folder)  # the loggers' own files


def _table(event: Event) -> dict[str, Any] | None:
    if isinstance(event, Progress):
        return None
    if isinstance(event, Finding):
        return {"finding": to_table(event)}
    if isinstance(event, Sampled):
        aside = {"aside": True} if event.aside else {}
        return {"step": event.step, "scores": to_table(event.scores), **aside}
    return to_table(event)


def _cut(path: Path, step: int) -> None:
    """Takes out what was written of steps after `step`."""
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            table: dict[str, Any] = json.loads(line)
        except ValueError:  # the process was killed while it wrote this line
            continue
        if table.get("step", 0) <= step and table.get("event") != "ended":
            kept.append(line)
    write_whole(path, "".join(line + "\n" for line in kept))
