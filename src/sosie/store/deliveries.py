"""Deliveries: each file that was written for a run, recorded once, and counted when its bytes are there.

The intent is recorded before the file appears, so that nothing is delivered that is not recorded, and ended after it.
What a kill left between the two is settled by the file itself.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sosie.core.errors import StoreError
from sosie.files.digest import file_digest
from sosie.store.catalogue import Catalogue, as_text, now

ABANDONED = timedelta(hours=1)
"""So long after its beginning a delivery without its file was given up: a file is written in seconds."""


@dataclass(frozen=True)
class Outgoing:
    """A file that is about to be written for a run: a render's image, with or without a manifest.

    `sha256` is the digest that the file's bytes will have.
    """

    run: int
    render: int
    path: Path
    provenance: bool
    sha256: str


def is_delivered(catalogue: Catalogue, render: int, path: Path, provenance: bool) -> bool:
    """Whether a render's image was delivered at `path`, and the file is still the one that was written."""
    sql = "SELECT sha256 FROM deliveries WHERE render = ? AND path = ? AND provenance = ? AND finished IS NOT NULL"
    found = catalogue.row(sql, render, _place(path), int(provenance))
    return found is not None and found[0] is not None and _has(path, found[0])


@contextmanager
def delivering(catalogue: Catalogue, outgoing: Outgoing) -> Generator[None]:
    """Records a delivery around the block that writes its file; one whose file is not written leaves no record."""
    sql = "SELECT r.plan, i.pixels FROM renders r JOIN images i ON i.sha256 = r.image WHERE r.id = ?"
    with catalogue.write():
        render = catalogue.row(sql, outgoing.render)
        if render is None:
            raise StoreError(f"{catalogue.path} has no render {outgoing.render}; expected one that is stored")
        plan, pixels = render
        _record(catalogue, outgoing, plan, pixels, None)
    try:
        yield
    except Exception:
        if not _has(outgoing.path, outgoing.sha256):
            where = "plan = ? AND path = ? AND finished IS NULL"
            catalogue.rows(f"DELETE FROM deliveries WHERE {where}", plan, _place(outgoing.path))  # noqa: S608
        raise
    with catalogue.write():
        _record(catalogue, outgoing, plan, pixels, now())


def settle(catalogue: Catalogue) -> None:
    """Ends what a kill cut off: a delivery whose file is there was made, another was not."""
    begun = catalogue.rows("SELECT id, path, sha256, created FROM deliveries WHERE finished IS NULL")
    for number, path, sha256, created in begun:
        if _has(Path(path), sha256):
            catalogue.rows("UPDATE deliveries SET finished = ? WHERE id = ? AND finished IS NULL", now(), number)
        elif datetime.now(UTC) - datetime.fromisoformat(created) > ABANDONED:
            catalogue.rows("DELETE FROM deliveries WHERE id = ? AND finished IS NULL", number)


def _record(catalogue: Catalogue, outgoing: Outgoing, plan: str, pixels: str, finished: str | None) -> None:
    catalogue.insert(
        "INSERT INTO deliveries (run, render, plan, pixels, path, provenance, created, sha256, finished) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (plan, path) DO UPDATE SET run = excluded.run, "
        "render = excluded.render, pixels = excluded.pixels, provenance = excluded.provenance, "
        "created = excluded.created, sha256 = excluded.sha256, finished = excluded.finished",
        *(outgoing.run, outgoing.render, plan, pixels, _place(outgoing.path), int(outgoing.provenance)),
        *(now(), outgoing.sha256, finished),
    )


def _place(path: Path) -> str:
    return as_text(os.path.abspath(path))  # noqa: PTH100 - a link on the way is a name that the user chose


def _has(path: Path, sha256: str) -> bool:
    try:
        return file_digest(path) == sha256
    except (OSError, ValueError):
        return False
