"""The store of a workspace: nothing is delivered that is not recorded here, whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from sosie.core import Calibrated, Finding, Plan, Render, Score, Scorecard, Verdict
from sosie.core.errors import StoreError
from sosie.core.finding import Rule
from sosie.core.schema import digest
from sosie.files.drafts import sweep
from sosie.files.whole import PRIVATE, close_to_others, make_file, make_folder
from sosie.store import deliveries, faults, images
from sosie.store.catalogue import Catalogue, as_json, as_text, now
from sosie.store.deliveries import Outgoing
from sosie.store.entries import TABLES as ENTRY_TABLES
from sosie.store.gallery import TABLES as GALLERY_TABLES
from sosie.store.jobs import TABLES as JOB_TABLES
from sosie.store.rows import RENDERS, Notes, StoredRender, find_findings, find_scorecard, stored_render
from sosie.store.training import TABLES as TRAINING_TABLES

if TYPE_CHECKING:
    from PIL.Image import Image

S001 = Rule("SOS-S001", "warning", "A stored image is missing or damaged")

TABLES = (
    "models",
    "environments",
    "runs",
    "findings",
    "plans",
    "plan_models",
    "images",
    "renders",
    "sources",
    "scorecards",
    "scores",
    "deliveries",
    *TRAINING_TABLES,
    *ENTRY_TABLES,
    *JOB_TABLES,
    *GALLERY_TABLES,
)


class Store:
    """The folder `.sosie/` of a workspace: `images/` and `catalogue.sqlite`.

    Several processes may hold one store at once; within a process, one `Store` for each thread.
    Every method raises `StoreError`; what was finished before it is kept.
    """

    def __init__(self, folder: Path, catalogue: Catalogue) -> None:
        self.folder = folder
        self._images = folder / "images"
        self._catalogue = catalogue

    @staticmethod
    def open(folder: Path) -> Store:
        """Opens the store in `folder`, made or migrated if need be; the folder's parent must exist."""
        path = folder / "catalogue.sqlite"
        try:
            folder.parent.stat()
            make_folder(folder / "images")
            if folder.name == PRIVATE and folder.stat().st_mode & 0o077:
                close_to_others(folder)  # made by an earlier version
            make_file(path)
        except OSError as error:
            raise faults.disk_fault(folder, error) from error
        for place in (folder, folder / "images", path):
            if place.exists() and not os.access(place, os.W_OK):
                raise faults.read_only(place)
        catalogue = Catalogue(path)
        try:
            deliveries.settle(catalogue)
        except BaseException:
            catalogue.close()
            raise
        return Store(folder, catalogue)

    def close(self) -> None:
        """Frees the catalogue; the store cannot be used after."""
        self._catalogue.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin_run(self, command: str, arguments: Mapping[str, Any]) -> int:
        """Records that a command began and returns the run's number; secrets are not arguments."""
        sql = "INSERT INTO runs (command, arguments, started) VALUES (?, ?, ?)"
        return self._catalogue.insert(
            sql, as_text(command), as_json({name: _plain(value) for name, value in arguments.items()}), now()
        )

    def end_run(self, run: int, outcome: str) -> None:
        """Records how a run ended; a run without an end was killed or still goes on."""
        sql = "UPDATE runs SET finished = ?, outcome = ? WHERE id = ? RETURNING id"
        if not self._catalogue.row(sql, now(), as_text(outcome), run):
            raise StoreError(f"{self._catalogue.path} has no run {run}; expected one that begin_run gave")

    def add_findings(self, run: int, findings: Iterable[Finding]) -> None:
        """Records what checks said in a run, all of them or none."""
        with self._catalogue.write():
            self._insert_findings(run, findings)

    def findings(self, run: int | None = None) -> tuple[Finding, ...]:
        """The findings of a run, in order; without one, the store's own: which images were lost and why."""
        return find_findings(self._catalogue, run)

    def keep_image(self, image: Image) -> images.Encoded:
        """Encodes an image (RGB) and makes its file durable, for `add_render`; any thread may call it."""
        encoded = images.encode(image)
        images.write(self._images, encoded)
        return encoded

    def add_render(self, render: Render, image: images.Encoded | None = None) -> StoredRender:
        """Stores a render: the image first (unless `keep_image` gave it), then its records in one transaction.

        For a plan and engine that are stored already, the stored render is returned and nothing
        is written. The image is kept as it is, pixels only.
        """
        if stored := self.find_render(render.plan.id, render.engine):
            return stored
        image = image or self.keep_image(render.image)
        with self._catalogue.write():
            if stored := self._row(render.plan.id, render.engine):
                return stored  # another process was faster
            # Again: a sweep may have taken the file since. It deletes under this lock, so now it stays.
            path = images.write(self._images, image)
            number = self._insert_render(render, image)
        return StoredRender(
            id=number,
            plan=render.plan,
            engine=render.engine,
            image=path,
            sha256=image.sha256,
            pixels=image.pixels,
            seconds=render.seconds,
            environment=render.environment,
            notes=_notes(render),
        )

    def find_render(self, plan_id: str, engine: str) -> StoredRender | None:
        """The stored render of a plan by an engine, its image checked byte for byte, or None.

        If the image is missing or damaged, all renders that have it are dropped with their
        scorecards, and `findings()` says why; deliveries stay on record.
        """
        stored = self._row(plan_id, engine)
        if stored is None or not images.complaint(self._images, stored.sha256):
            return stored
        with self._catalogue.write():
            stored = self._row(plan_id, engine)
            if stored and (why := images.complaint(self._images, stored.sha256)):
                self._drop(stored, why)
                return None
        return stored

    def read(self, stored: StoredRender) -> bytes:
        """The PNG file of a stored image, pixels only; `StoreError` if it is missing or damaged."""
        return images.read(self._images, stored.sha256)

    def add_source(self, source: Image) -> str:
        """Stores an image from elsewhere (RGB) that a plan is to work on; the digest of its pixels names it."""
        image = images.encode(source)
        with self._catalogue.write():
            images.write(self._images, image)
            self._insert_image(image)
            sql = "INSERT INTO sources VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            self._catalogue.insert(sql, image.pixels, image.sha256, now())
        return image.pixels

    def find_image(self, pixels: str) -> Path:
        """The stored image whose decoded pixels have that digest; `StoreError` if there is none or it is damaged."""
        for (sha256,) in self._catalogue.rows("SELECT sha256 FROM images WHERE pixels = ?", pixels):
            if not images.complaint(self._images, sha256):
                return images.path_of(self._images, sha256)
        raise StoreError(
            f"{self.folder} has no whole image with the pixels {pixels[:12]}; expected one that was stored",
            "run the same command again to render it anew",
        )

    def add_scorecard(self, render_id: int, gate: str, scorecard: Scorecard, verdict: Verdict) -> None:
        """Records how a render was judged by `gate` (the digest of the rules and judges used).

        A gate judges a render once: a second scorecard for the same pair is not kept.
        """
        for score in scorecard.scores:
            _expect_finite(render_id, score)
        with self._catalogue.write():
            card = self._catalogue.row(
                "INSERT INTO scorecards (render, gate, outcome, reasons, created) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (render, gate) DO NOTHING RETURNING id",
                *(render_id, as_text(gate), verdict.outcome, as_json(verdict.reasons), now()),
            )
            if card:
                self._catalogue.insert_many(
                    "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [(card[0], position, *_score_row(score)) for position, score in enumerate(scorecard.scores)],
                )

    def find_scorecard(self, render_id: int, gate: str) -> tuple[Scorecard, Verdict] | None:
        """The scorecard and verdict that `add_scorecard` stored, equal to them, or None."""
        return find_scorecard(self._catalogue, render_id, as_text(gate))

    def is_delivered(self, render_id: int, path: Path, provenance: bool) -> bool:
        """Whether a render's image was delivered at `path`, and the file is still the one that was written."""
        return deliveries.is_delivered(self._catalogue, render_id, path, provenance)

    def delivering(self, outgoing: Outgoing) -> AbstractContextManager[None]:
        """Records a delivery around the block that writes its file: once, and only if it is written."""
        return deliveries.delivering(self._catalogue, outgoing)

    def sweep(self, age: float = 86400.0) -> tuple[Path, ...]:
        """Deletes what killed processes left: drafts that nobody holds, and images without a render.

        Of images only those last written over `age` seconds ago, and none that is older than this
        catalogue: that belongs to one that was moved aside. Returns which were deleted.
        """
        for folder in images.folders(self._images):
            sweep(folder)
        born = self._catalogue.row("SELECT applied FROM migrations WHERE version = 1")[0]
        made_here = datetime.fromisoformat(born).timestamp()
        swept: list[Path] = []
        for path, written in images.older_than(self._images, age):
            if path.suffix == ".png" and (written < made_here or self._is_used(path)):
                continue
            with self._catalogue.write():
                if self._is_used(path):
                    continue
                try:
                    # Written again since it was listed: somebody is about to record it.
                    if path.stat().st_mtime == written:
                        path.unlink()
                        swept.append(path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    raise faults.disk_fault(path, error) from error
        return tuple(swept)

    def counts(self) -> dict[str, int]:
        """The number of rows in each table."""
        return {table: self._catalogue.row(f"SELECT count(*) FROM {table}")[0] for table in TABLES}  # noqa: S608

    def _row(self, plan_id: str, engine: str) -> StoredRender | None:
        row = self._catalogue.row(f"{RENDERS} WHERE r.plan = ? AND r.engine = ?", plan_id, engine)
        return stored_render(row, self._catalogue.path) if row else None

    def _is_used(self, path: Path) -> bool:
        sql = "SELECT 1 FROM renders WHERE image = ? UNION SELECT 1 FROM sources WHERE image = ?"
        return self._catalogue.row(sql, path.stem, path.stem) is not None

    def _drop(self, stored: StoredRender, why: str) -> None:
        lost = S001.at(
            str(stored.image),
            f"the image of plan {stored.plan.id[:12]} {why}; expected the file that was stored, "
            "so its render is taken for not done",
            "run the same command again to render it anew",
        )
        self._catalogue.rows("DELETE FROM renders WHERE image = ?", stored.sha256)
        self._catalogue.rows("DELETE FROM images WHERE sha256 = ?", stored.sha256)
        self._insert_findings(None, [lost])

    def _insert_findings(self, run: int | None, findings: Iterable[Finding]) -> None:
        self._catalogue.insert_many(
            "INSERT INTO findings (run, code, severity, subject, message, hint) VALUES (?, ?, ?, ?, ?, ?)",
            [(run, f.code, f.severity, *map(as_text, (f.subject, f.message, f.hint))) for f in findings],
        )

    def _insert_render(self, render: Render, image: images.Encoded) -> int:
        insert, plan = self._catalogue.insert, render.plan
        insert(
            "INSERT INTO plans VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(plan.id, as_json(plan), as_text(plan.recipe), as_text(plan.character.name), as_text(plan.prompt)),
            *(plan.seed, plan.draw.parent or None, now()),
        )
        for model in _models(plan):
            insert("INSERT INTO models (sha256, name, role) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", *model)
            insert(
                "INSERT INTO plan_models SELECT ?, id FROM models WHERE sha256 = ? AND name = ? AND role = ? "
                "ON CONFLICT DO NOTHING",
                *(plan.id, *model),
            )
        environment = digest(render.environment)
        insert(
            "INSERT INTO environments VALUES (?, ?) ON CONFLICT DO NOTHING", environment, as_json(render.environment)
        )
        self._insert_image(image)
        return insert(
            "INSERT INTO renders (plan, engine, image, environment, seconds, created, notes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(plan.id, render.engine, image.sha256, environment, render.seconds, now(), as_json(_notes(render))),
        )

    def _insert_image(self, image: images.Encoded) -> None:
        self._catalogue.insert(
            "INSERT INTO images VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(image.sha256, image.pixels, image.width, image.height, len(image.data)),
        )


def _notes(render: Render) -> Notes:
    return Notes(render.findings, dict(render.measures))


def _models(plan: Plan) -> list[tuple[str, str, str]]:
    """Digest, name and role of every file that a plan uses."""
    roles: dict[tuple[str, str], None] = {}
    for stage in plan.stages:
        roles[stage.model, "model"] = None
        for guide in stage.guides:
            roles[guide.weights, "guide"] = None
            roles[guide.encoder, "encoder"] = None
    roles = {(name, role): None for name, role in roles if name}
    known = {name for name, _ in roles}
    roles |= {(asset.name, "part"): None for asset in plan.assets if asset.name not in known}
    return [(plan.asset(name).sha256, as_text(name), role) for name, role in roles]


def _plain(argument: Any) -> Any:
    """An argument as JSON can hold it: paths and the like as text."""
    if isinstance(argument, list | tuple):
        return [_plain(item) for item in cast("list[Any]", argument)]
    return argument if argument is None or isinstance(argument, bool | int | float | str) else as_text(argument)


def _score_row(score: Score) -> tuple[Any, ...]:
    passed = None if score.passed is None else int(score.passed)
    return score.kind, as_text(score.name), score.value, score.threshold, passed, as_json(score)


def _expect_finite(render_id: int, score: Score) -> None:
    evidence = score.evidence or Calibrated()
    rates = [rate for rate in (evidence.rate, evidence.joint, evidence.others) if rate]
    numbers = [score.value, score.threshold, score.low, score.high, *(n for r in rates for n in (r.fmr, r.upper95))]
    if bad := [number for number in numbers if number is not None and not math.isfinite(number)]:
        raise StoreError(
            f"score '{score.name}' of render {render_id} holds {bad[0]}; expected finite numbers, "
            "or no value and the reason why"
        )
