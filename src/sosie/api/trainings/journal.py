"""What a training says, as lines of JSON in a file, with its pictures beside: whoever reads may come later."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sosie.core import Finding, Note, Progress
from sosie.core.errors import SosieError
from sosie.core.schema import from_table, to_table
from sosie.engines.resident_protocol import error_table, read_error, read_findings
from sosie.files.foreign import object_or_none, parse_json
from sosie.files.whole import make_folder, whole_stream
from sosie.training.events import Ended, Event, Judged, RolledBack, Sample, Sampled, Scores, Stepped, Validated

FILE = "journal.jsonl"
PLAIN: dict[str, type] = {one.__name__: one for one in (Note, Progress, Stepped, Validated, RolledBack)}
"""Events that are their fields."""


class Journal:
    """Writes into a folder of its own, a line an event; what a killed writer left unfinished is passed over."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder
        self._file = (folder / FILE).open("a", encoding="utf-8")
        self._file.write("\n")

    def write(self, event: Event | Note) -> None:
        """One event; a picture is whole before its line is there. What only that machine needs is left out."""
        name = type(event).__name__
        match event:
            case Finding():
                self._line({"event": name, **to_table(event)})
            case Sampled():
                self._line({"event": name, **self._samples(event)})
            case Ended():
                table = {"path": str(event.path or ""), "scores": to_table(event.scores) if event.scores else None}
                rest = {"cause": event.cause, "step": event.step, "triggers": list(event.triggers), "best": event.best}
                told = {"judged": to_table(event.judged), "findings": to_table(event.findings)}
                self._line({"event": name, **rest, **table, **told})
            case _ if name in PLAIN:
                self._line({"event": name, **to_table(event)})
            case _:
                pass

    def fail(self, error: SosieError) -> None:
        """The error that ended it."""
        self._line({"event": "error", **error_table(error)})

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _line(self, table: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(table) + "\n")
        self._file.flush()

    def _samples(self, event: Sampled) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        for place, sample in enumerate(event.samples):
            file = self._folder / f"sample-{event.step:07d}-{place:02d}.png"
            with whole_stream(file) as stream:
                sample.image.save(stream, "PNG")
            rows.append({"file": file.name, "prompt": sample.prompt, "seed": sample.seed})
        scores = to_table(event.scores) if event.scores is not None else None
        return {"step": event.step, "samples": rows, "scores": scores}


def read_event(line: bytes, picture: Callable[[str], Any]) -> Event | Note | None:
    """The event of a line, None for one that is none. `picture` gives the image (RGB) of a file's name.

    Raises the error that the training ended with.
    """
    try:
        table = object_or_none(parse_json(line))
    except ValueError:
        return None
    name = str((table or {}).pop("event", ""))
    if table is None or not name:
        return None
    if name == "error":
        raise read_error(table)
    if name == "Finding":
        return read_findings([table])[0]
    if name == "Sampled":
        rows = [Sample(picture(str(row["file"])), str(row["prompt"]), int(row["seed"])) for row in table["samples"]]
        return Sampled(int(table["step"]), tuple(rows), _scores(table["scores"]))
    if name == "Ended":
        judged = tuple(from_table(Judged, one, "journal") for one in table["judged"])
        return Ended(
            table["cause"],
            int(table["step"]),
            Path(table["path"]) if table["path"] else None,
            tuple(table["triggers"]),
            table["best"],
            _scores(table["scores"]),
            judged,
            read_findings(table["findings"]),
        )
    if name == Stepped.__name__:  # what is not finite is no JSON
        table = {key: math.nan if value is None else value for key, value in table.items()}
    plain: Any = PLAIN.get(name)
    return from_table(plain, table, "journal") if plain is not None else None


def _scores(table: Any) -> Scores | None:
    return None if table is None else from_table(Scores, table, "journal")
