"""The gallery: images of the store as people look through them, a window at a time, and what people say of them.

A machine's verdict and a person's stand beside each other; neither changes the other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sosie.core import Score
from sosie.core.errors import NotFoundError, UsageError
from sosie.core.schema import from_table
from sosie.store.catalogue import Catalogue, as_text, now

TABLES = ("opinions",)

MOST = 500
"""Images of one window."""

Said = Literal["keep", "reject", ""]
Sort = Literal["newest", "oldest", "identity", "-identity", "stars"]

_FROM = """
FROM renders r JOIN plans p ON p.id = r.plan JOIN images i ON i.sha256 = r.image
LEFT JOIN scorecards c ON c.id = (SELECT max(id) FROM scorecards WHERE render = r.id)
LEFT JOIN opinions o ON o.id = (SELECT max(id) FROM opinions WHERE render = r.id)
"""

_IDENTITY = "(SELECT value FROM scores WHERE scorecard = c.id AND kind = 'identity' ORDER BY position LIMIT 1)"
"""The first judge's: judges have different scales."""

_ORDERS: dict[str, str] = {
    "newest": "r.id DESC",
    "oldest": "r.id",
    "identity": f"{_IDENTITY} IS NULL, {_IDENTITY}, r.id DESC",
    "-identity": f"{_IDENTITY} IS NULL, {_IDENTITY} DESC, r.id DESC",
    "stars": "o.stars IS NULL, o.stars DESC, r.id DESC",
}


@dataclass(frozen=True)
class Query:
    """Which images, and in which order. Empty texts and None ask for nothing.

    `machine` is the newest verdict of the judges, or `none` for images that were not judged; `human` a person's, or
    `none`; `differs` asks for images that people and judges disagree on. `failed` is the name of a score that did not
    pass, `below` a value of the first identity judge. `since` and `until` are days (`2026-11-30`, UTC, both counted).
    `job` is a job of the queue. Without a value for `machine`, images that nobody judged (impostors) are left out.
    """

    character: str = ""
    recipe: str = ""
    machine: str = ""
    human: str = ""
    differs: bool = False
    failed: str = ""
    below: float | None = None
    since: str = ""
    until: str = ""
    job: int | None = None
    sort: str = "newest"

    def where(self) -> tuple[str, list[Any]]:
        """The conditions as SQL, and their values. Raises `UsageError` for an order that there is not."""
        if self.sort not in _ORDERS:
            raise UsageError(f"sort '{self.sort[:40]}' is not known; expected {', '.join(_ORDERS)}")
        found = [(sql, values) for asked, sql, *values in self._conditions() if asked]
        return " AND ".join(f"({sql})" for sql, _ in found), [value for _, values in found for value in values]

    def _conditions(self) -> list[tuple[Any, ...]]:
        """Whether it is asked for, its SQL, and its values."""
        judged = self.machine != "none"
        failed = "EXISTS (SELECT 1 FROM scores s WHERE s.scorecard = c.id AND s.name = ? AND s.passed = 0)"
        told = "SELECT json_extract(e.json, '$.render') FROM job_events e WHERE e.job = ? AND e.kind = 'result'"
        differs = "o.verdict <> '' AND (o.verdict = 'keep') <> (c.outcome = 'keep')"
        return [
            (self.character, "p.character = ?", as_text(self.character)),
            (self.recipe, "p.recipe = ?", as_text(self.recipe)),
            (not judged, "c.id IS NULL"),
            (judged, "c.id IS NOT NULL"),
            (self.machine and judged, "c.outcome = ?", self.machine),
            (self.human == "none", "coalesce(o.verdict, '') = ''"),
            (self.human and self.human != "none", "o.verdict = ?", self.human),
            (self.differs, differs),
            (self.failed, failed, as_text(self.failed)),
            (self.below is not None, f"{_IDENTITY} < ?", self.below),
            (self.since, "r.created >= ?", self.since),
            (self.until, "substr(r.created, 1, 10) <= ?", self.until),
            (self.job is not None, f"r.id IN ({told})", self.job),
        ]


@dataclass(frozen=True)
class Opinion:
    """What a person said of an image. Empty and None: nothing."""

    verdict: Said = ""
    stars: int | None = None


@dataclass(frozen=True)
class Shown:
    """An image of the gallery: whose, how it was judged, and what a person said. `created` is ISO 8601 in UTC.

    `outcome` is empty and `scores` too where nobody judged it. `identity` and `seconds` stand for themselves.
    """

    render: int
    sha256: str
    pixels: str
    plan: str
    parent: str
    character: str
    recipe: str
    prompt: str
    seed: int
    width: int
    height: int
    engine: str
    seconds: float
    created: str
    outcome: str
    reasons: tuple[str, ...]
    opinion: Opinion
    scores: tuple[Score, ...] = field(default=())


class Gallery:
    """The images of the store in `folder`, which a `Store` has made. One for each thread; close it."""

    def __init__(self, folder: Path) -> None:
        self._catalogue = Catalogue(folder / "catalogue.sqlite")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the catalogue."""
        self._catalogue.close()

    def count(self, query: Query) -> int:
        """How many images a query finds."""
        where, values = query.where()
        return int(self._catalogue.row(f"SELECT count(*) {_FROM} WHERE {where}", *values)[0])

    def window(self, query: Query, start: int = 0, count: int = MOST) -> tuple[Shown, ...]:
        """The images from place `start` on, `count` (at most `MOST`) of them, with all their scores."""
        where, values = query.where()
        rest = f"WHERE {where} ORDER BY {_ORDERS[query.sort]} LIMIT ? OFFSET ?"
        return self._select(rest, [*values, max(0, min(count, MOST)), max(0, start)])

    def place(self, query: Query, render: int) -> int | None:
        """At which place of a query an image stands, or None."""
        where, values = query.where()
        order = _ORDERS[query.sort]
        sql = f"SELECT place FROM (SELECT r.id, row_number() OVER (ORDER BY {order}) - 1 place {_FROM} WHERE {where})"  # noqa: S608
        row = self._catalogue.row(f"{sql} WHERE id = ?", *values, render)
        return int(row[0]) if row else None

    def image(self, sha256: str) -> Shown:
        """The newest render of the image of a digest. Raises `NotFoundError`."""
        found = self._select("WHERE r.image = ? ORDER BY r.id DESC LIMIT 1", [sha256])
        if not found:
            raise NotFoundError(f"the store has no image {sha256[:12]}", "sosie image list")
        return found[0]

    def of_pixels(self, pixels: str) -> Shown | None:
        """The newest render whose decoded pixels have that digest, wherever its file is from; None if there is none."""
        found = self._select("WHERE i.pixels = ? ORDER BY r.id DESC LIMIT 1", [pixels])
        return found[0] if found else None

    def of_plan(self, plan: str) -> Shown | None:
        """The newest render of a plan; None if there is none."""
        found = self._select("WHERE r.plan = ? ORDER BY r.id DESC LIMIT 1", [plan])
        return found[0] if found else None

    def settings(self, plan: str) -> dict[str, Any]:
        """A stored plan as JSON. Raises `NotFoundError`."""
        row = self._catalogue.row("SELECT json FROM plans WHERE id = ?", plan)
        if row is None:
            raise NotFoundError(f"the store has no plan {plan[:12]}")
        return json.loads(row[0])

    def choices(self) -> dict[str, list[str]]:
        """What there is to filter by: characters, recipes, and scores that some image failed."""
        columns = {
            "characters": "SELECT DISTINCT character FROM plans ORDER BY 1",
            "recipes": "SELECT DISTINCT recipe FROM plans ORDER BY 1",
            "failed": "SELECT DISTINCT name FROM scores WHERE passed = 0 ORDER BY 1",
        }
        return {name: [str(row[0]) for row in self._catalogue.rows(sql)] for name, sql in columns.items()}

    def say(self, digests: Sequence[str], verdict: Said | None, stars: int | None = None) -> int:
        """Puts on record what a person says of images, all of it or nothing; how many it was said of.

        A `verdict` or `stars` of None stays as it was; 0 stars takes them back. Raises `NotFoundError`.
        """
        with self._catalogue.write():
            rows = [self._render(digest) for digest in dict.fromkeys(digests)]
            self._say(rows, verdict, stars)
        return len(rows)

    def say_of_all(self, query: Query, verdict: Said | None, stars: int | None = None) -> int:
        """The same of every image that a query finds."""
        where, values = query.where()
        with self._catalogue.write():
            found = self._catalogue.rows(f"SELECT r.id, o.verdict, o.stars {_FROM} WHERE {where}", *values)
            self._say(found, verdict, stars)
        return len(found)

    def _say(self, rows: Sequence[tuple[Any, ...]], verdict: Said | None, stars: int | None) -> None:
        if stars is not None and not 0 <= stars <= 5:
            raise UsageError(f"{stars} stars; expected 1 to 5, or 0 for none")
        said = [
            (render, (old or "") if verdict is None else verdict, had if stars is None else stars or None, now())
            for render, old, had in rows
        ]
        self._catalogue.insert_many("INSERT INTO opinions (render, verdict, stars, created) VALUES (?, ?, ?, ?)", said)

    def _render(self, digest: str) -> tuple[Any, ...]:
        row = self._catalogue.row(
            f"SELECT r.id, o.verdict, o.stars {_FROM} WHERE r.image = ? ORDER BY r.id DESC LIMIT 1",
            as_text(digest),
        )
        if row is None:
            raise NotFoundError(f"the store has no image {digest[:12]}", "sosie image list")
        return row

    def _select(self, rest: str, values: Sequence[Any]) -> tuple[Shown, ...]:
        rows = self._catalogue.rows(
            "SELECT r.id, r.image, i.pixels, p.id, coalesce(p.parent, ''), p.character, p.recipe, p.prompt, p.seed, "
            "i.width, i.height, r.engine, r.seconds, r.created, coalesce(c.outcome, ''), c.reasons, "
            f"coalesce(o.verdict, ''), o.stars, c.id {_FROM} {rest}",
            *values,
        )
        cards = self._scores([row[-1] for row in rows if row[-1] is not None])
        return tuple(
            Shown(
                *first,
                reasons=tuple(json.loads(reasons or "[]")),
                opinion=Opinion(verdict, stars),
                scores=tuple(cards.get(card, ())),
            )
            for *first, reasons, verdict, stars, card in rows
        )

    def _scores(self, cards: Sequence[int]) -> dict[int, list[Score]]:
        found: dict[int, list[Score]] = {}
        marks = ", ".join("?" * len(cards))
        sql = f"SELECT scorecard, json FROM scores WHERE scorecard IN ({marks}) ORDER BY scorecard, position"  # noqa: S608
        for card, text in self._catalogue.rows(sql, *cards) if cards else ():
            found.setdefault(card, []).append(from_table(Score, json.loads(text), str(self._catalogue.path)))
        return found
