"""The catalogue of a store as another program sees it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from renders import CARD

from sosie.store import images, pixels_digest


@contextmanager
def raw(folder: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue as another program sees it."""
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as database, database:
        yield database


def check_whole(folder: Path) -> int:
    """No damage, no half record: every row has what it names. Returns the number of renders."""
    with raw(folder) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        for sha256, pixels in database.execute("SELECT sha256, pixels FROM images"):
            assert images.complaint(folder / "images", sha256) == ""
            with Image.open(images.path_of(folder / "images", sha256)) as image:
                assert pixels_digest(image) == pixels
        cards = database.execute(
            "SELECT c.id, count(s.json) FROM scorecards c LEFT JOIN scores s ON s.scorecard = c.id GROUP BY c.id"
        )
        assert {count for _, count in cards} <= {len(CARD.scores)}
        whole = (
            "SELECT count(*) FROM renders r JOIN images i ON i.sha256 = r.image JOIN plan_models m ON m.plan = r.plan"
        )
        renders = database.execute("SELECT count(*) FROM renders").fetchone()[0]
        assert database.execute(whole).fetchone()[0] == 3 * renders
        return renders


def ask(database: Path, sql: str) -> list[Any]:
    """The rows that a statement gives."""
    with closing(sqlite3.connect(database)) as opened:
        return opened.execute(sql).fetchall()
