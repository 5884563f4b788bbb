"""The JSON of each noun: what `--json` prints and a page is sent."""

from __future__ import annotations

from sosie.api.comparing import lines as comparing
from sosie.api.lines import characters, checks, experiments, findings, images, machines, models, records, trainings
from sosie.api.lines.findings import JSON, Writers

WRITERS: Writers = {
    name: write
    for room in (characters, checks, comparing, experiments, findings, images, machines, models, records, trainings)
    for name, write in room.WRITERS.items()
}


def json_of(noun: object) -> JSON:
    """The object that JSON holds of a noun; keys keep their order, and what is unknown is None.

    Raises `TypeError` for a noun that is never shown as JSON.
    """
    kind = type(noun)
    write = WRITERS.get(f"{kind.__module__}.{kind.__qualname__}")
    if write is None:
        raise TypeError(f"{kind.__name__} has no JSON")
    return write(noun)
