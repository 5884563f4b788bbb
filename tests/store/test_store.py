"""The store: exact round trips, and nothing lost or half written whatever happens."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from catalogues import check_whole, raw
from PIL import Image
from renders import CARD, ENVIRONMENT, GUIDE, KEEP, a_render, deliver, picture

from sosie.core import (
    Finding,
)
from sosie.core.errors import StoreError
from sosie.files.images import read_image
from sosie.store import Outgoing, Store, catalogue, images, pixels_digest
from sosie.store.record import Record
from sosie.store.rows import Notes

# --- round trips ---


def test_a_render_comes_back_equal_bit_for_bit(store: Store, folder: Path) -> None:
    render = a_render(1)
    added = store.add_render(render)
    store.close()
    with Store.open(folder) as again:
        found = again.find_render(render.plan.id, "fake")
    assert found == added
    assert found is not None
    assert (found.plan, found.environment, found.seconds) == (render.plan, ENVIRONMENT, 1.5)
    assert found.plan.id == render.plan.id
    assert found.image.relative_to(folder).as_posix() == f"images/{found.sha256[:2]}/{found.sha256}.png"
    with Image.open(found.image) as image:
        assert image.tobytes() == render.image.tobytes()
        assert pixels_digest(image) == found.pixels == pixels_digest(render.image)


def test_a_pixels_digest_tells_sizes_modes_and_single_bits_apart() -> None:
    base = Image.new("RGB", (8, 4))
    other = base.copy()
    other.putpixel((0, 0), (0, 0, 1))
    variants = [base, other, Image.new("RGB", (4, 8)), Image.new("L", (24, 4)), Image.new("L", (8, 12))]
    assert len({pixels_digest(image) for image in variants}) == len(variants)


def test_metadata_of_the_image_is_not_stored(store: Store) -> None:
    render = a_render(1)
    render.image.info.update(icc_profile=b"profile", transparency=(0, 0, 0), comment="secret")
    with Image.open(store.add_render(render).image) as image:
        image.load()
        assert image.info == {}


def test_unknown_things_are_none_and_not_errors(store: Store) -> None:
    assert store.find_render("0" * 64, "fake") is None
    assert store.find_scorecard(1, "gate") is None
    assert store.findings(7) == ()


def test_the_same_plan_and_engine_are_stored_once_and_the_first_image_stays(store: Store) -> None:
    first = store.add_render(a_render(1))
    assert store.add_render(replace(a_render(1), image=picture(99))) == first
    assert store.counts()["renders"] == store.counts()["images"] == 1
    assert len(list(store.folder.glob("images/*/*"))) == 1


def test_two_engines_with_equal_pixels_share_one_image(store: Store) -> None:
    one, two = store.add_render(a_render(1)), store.add_render(replace(a_render(1), engine="comfy"))
    assert (one.id, one.image) != (two.id, two.image)
    assert one.image == two.image
    assert {k: store.counts()[k] for k in ("renders", "images", "plans")} == {"renders": 2, "images": 1, "plans": 1}


def test_models_are_rows_with_their_role_and_an_unread_one_has_no_digest(store: Store, folder: Path) -> None:
    store.add_render(a_render(1))
    store.add_render(a_render(2))
    with raw(folder) as database:
        rows = set(database.execute("SELECT name, sha256, role FROM models"))
        links = database.execute("SELECT count(*) FROM plan_models").fetchone()[0]
    assert rows == {("mini", "a" * 64, "model"), (GUIDE.weights, "b" * 64, "guide"), ("sface", "", "encoder")}
    assert links == 6


def test_runs_findings_and_deliveries_are_recorded(store: Store, folder: Path) -> None:
    run = store.begin_run("generate", {"out": Path("out"), "n": 4, "prompts": ("a", "b"), "seed": None})
    findings = [Finding("SOS-R001", "warning", "mini", "what", "do"), Finding("SOS-R002", "info", "mini", "so")]
    store.add_findings(run, findings)
    render = store.add_render(a_render(1))
    deliver(store, run, render.id, Path("out/1.png"), False)
    store.end_run(run, "done")
    assert store.findings(run) == tuple(findings)
    assert store.findings() == ()
    with raw(folder) as database:
        arguments, outcome = database.execute(
            "SELECT arguments, outcome FROM runs WHERE finished >= started"
        ).fetchone()
        delivery = database.execute("SELECT run, render, plan, pixels, path, provenance FROM deliveries").fetchone()
    assert arguments == '{"out": "out", "n": 4, "prompts": ["a", "b"], "seed": null}'
    assert outcome == "done"
    assert delivery == (run, render.id, render.plan.id, render.pixels, str(Path.cwd() / "out/1.png"), 0)


def test_text_that_utf8_cannot_hold_is_stored(store: Store) -> None:
    odd = os.fsdecode(b"caf\xe9\x00.png")
    run = store.begin_run("generate", {"prompt": odd})
    render = store.add_render(a_render(1, prompt=f"portrait {odd}"))
    deliver(store, run, render.id, Path(odd), True)
    store.add_findings(run, [Finding("SOS-R001", "error", odd, odd)])
    found = store.find_render(render.plan.id, "fake")
    assert found is not None
    assert found.plan.prompt.endswith(odd)


def test_records_that_name_nothing_stored_are_refused(store: Store) -> None:
    for refused in (
        lambda: store.end_run(9, "done"),
        lambda: store.add_findings(9, [Finding("SOS-R001", "info", "a", "b")]),
        lambda: store.add_scorecard(9, "gate", CARD, KEEP),
        lambda: deliver(store, 9, 9, Path("x"), True),
    ):
        with pytest.raises(StoreError, match="expected"):
            refused()
    assert set(store.counts().values()) == {0}


# --- one transaction each ---


def test_an_image_is_durable_before_its_row_exists(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def rows() -> int:
        with raw(folder) as database:
            return database.execute("SELECT count(*) FROM renders").fetchone()[0]

    def spy_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(f"sync {target.suffix or target.name} rows={rows()}")
        fsync(descriptor)

    def spy_replace(self: Path, target: Path) -> Path:
        events.append(f"rename {self.suffix} to {target.suffix} rows={rows()}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    part = store.add_render(a_render(1)).image.parent.name
    assert events == ["sync images rows=0", "sync .part rows=0", "rename .part to .png rows=0", f"sync {part} rows=0"]
    assert rows() == 1


@pytest.mark.parametrize("table", ["renders", "images", "environments", "plan_models"])
def test_a_render_that_fails_halfway_leaves_no_row_behind(store: Store, folder: Path, table: str) -> None:
    with raw(folder) as database:
        database.execute(f"CREATE TRIGGER boom BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'boom'); END")
    with pytest.raises(StoreError, match="boom"):
        store.add_render(a_render(1))
    assert set(store.counts().values()) == {0}
    with raw(folder) as database:
        database.execute("DROP TRIGGER boom")
    store.add_render(a_render(1))
    assert check_whole(folder) == 1


def test_a_scorecard_that_fails_halfway_leaves_no_row_behind(store: Store, folder: Path) -> None:
    render = store.add_render(a_render(1))
    with raw(folder) as database:
        database.execute(
            "CREATE TRIGGER boom BEFORE INSERT ON scores WHEN NEW.position = 1 BEGIN SELECT RAISE(ABORT, 'boom'); END"
        )
    with pytest.raises(StoreError, match="boom"):
        store.add_scorecard(render.id, "gate", CARD, KEEP)
    assert store.find_scorecard(render.id, "gate") is None
    assert (store.counts()["scorecards"], store.counts()["scores"]) == (0, 0)


def test_power_loss_is_answered_by_synchronous_full_and_foreign_keys_are_on(store: Store) -> None:
    pragma = store._catalogue.row
    assert pragma("PRAGMA synchronous")[0] == 2
    assert pragma("PRAGMA foreign_keys")[0] == 1
    assert pragma("PRAGMA journal_mode")[0] == "wal"
    assert pragma("PRAGMA busy_timeout")[0] == 30_000


# --- what the user or the disk does behind our back ---


def flip_a_bit(image: Path) -> None:
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)


@pytest.mark.parametrize(("harm", "why"), [(Path.unlink, "is missing"), (flip_a_bit, "is damaged")])
def test_a_render_whose_image_was_lost_is_not_done_and_says_why(store: Store, folder: Path, harm, why: str) -> None:
    run = store.begin_run("generate", {})
    lost, other = store.add_render(a_render(1)), store.add_render(a_render(2))
    store.add_scorecard(lost.id, "gate", CARD, KEEP)
    deliver(store, run, lost.id, Path("out/1.png"), True)
    harm(lost.image)
    assert store.find_render(lost.plan.id, "fake") is None
    assert store.find_render(other.plan.id, "fake") == other
    (finding,) = store.findings()
    assert (finding.code, finding.severity, finding.subject) == ("SOS-S001", "warning", str(lost.image))
    assert why in finding.message
    assert store.find_scorecard(lost.id, "gate") is None
    with raw(folder) as database:
        delivery = database.execute("SELECT render, plan, pixels FROM deliveries").fetchone()
    assert delivery == (None, lost.plan.id, lost.pixels)
    again = store.add_render(a_render(1))
    assert again.id != lost.id
    assert again.pixels == lost.pixels
    assert check_whole(folder) == 2


def test_a_damaged_file_is_replaced_when_its_image_is_rendered_again(store: Store, folder: Path) -> None:
    flip_a_bit(store.add_render(a_render(1)).image)
    assert store.add_render(a_render(1)).id == 2
    assert check_whole(folder) == 1


@pytest.mark.parametrize("ending", ["01234567.part", "abc.tmp"], ids=["of this version", "of earlier ones"])
def test_a_sweep_takes_old_leftovers_and_nothing_else(store: Store, folder: Path, ending: str) -> None:
    kept = store.add_render(a_render(1)).image
    orphan = images.write(folder / "images", images.encode(picture(2)))
    fresh = images.write(folder / "images", images.encode(picture(3)))
    temporary = kept.with_name(f".{'0' * 64}.{ending}")
    temporary.write_bytes(b"half")
    with raw(folder) as database:
        database.execute("UPDATE migrations SET applied = '2020-01-01T00:00:00.000000+00:00'")
    foreign = kept.with_name("earlier.png")
    foreign.write_bytes(b"of a catalogue that was moved aside")
    hour_ago, long_ago = time.time() - 3600, 1_500_000_000
    for path in (kept, orphan, temporary):
        os.utime(path, (hour_ago, hour_ago))
    os.utime(foreign, (long_ago, long_ago))
    assert set(store.sweep(age=1800)) - {temporary} == {orphan}
    assert not temporary.exists()
    assert all(path.exists() for path in (kept, fresh, foreign))
    assert store.sweep(age=1800) == ()


def test_an_old_leftover_that_is_rendered_again_is_safe_from_a_sweep(store: Store, folder: Path) -> None:
    with raw(folder) as database:
        database.execute("UPDATE migrations SET applied = '2020-01-01T00:00:00.000000+00:00'")
    orphan = images.write(folder / "images", images.encode(picture(1)))
    os.utime(orphan, (time.time() - 3600, time.time() - 3600))
    assert images.write(folder / "images", images.encode(picture(1))) == orphan
    assert store.sweep(age=1800) == ()


def test_an_image_swept_between_file_and_row_is_written_again(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = catalogue.Catalogue.write

    def sweep_first(self: catalogue.Catalogue):
        for path in folder.glob("images/*/*.png"):
            path.unlink()
        return begin(self)

    monkeypatch.setattr(catalogue.Catalogue, "write", sweep_first)
    stored = store.add_render(a_render(1))
    monkeypatch.undo()
    assert store.find_render(stored.plan.id, "fake") == stored


# --- what stages said, and images from elsewhere ---


def test_what_stages_said_and_measured_comes_back(folder: Path) -> None:
    said = Finding("SOS-E021", "warning", "mira", "the face is small", "a larger picture")
    render = replace(a_render(1), findings=(said,), measures=(("detail.seam", 1.25),))
    with Store.open(folder) as store:
        added = store.add_render(render)
        assert added.notes == Notes((said,), {"detail.seam": 1.25})
        assert store.find_render(added.plan.id, "fake") == added


def test_an_image_from_elsewhere_is_found_by_its_pixels_and_survives_the_sweep(folder: Path) -> None:
    with Store.open(folder) as store:
        image = a_render(7).image
        pixels = store.add_source(image)
        assert store.add_source(image) == pixels
        path = store.find_image(pixels)
        assert read_image(path).tobytes() == image.convert("RGB").tobytes()
        os.utime(path, (time.time() + 10, time.time() + 10))
        assert store.sweep(age=-100.0) == ()
        path.write_bytes(b"broken")
        with pytest.raises(StoreError, match="no whole image"):
            store.find_image(pixels)


def test_an_image_that_was_rendered_here_is_found_by_its_pixels(folder: Path) -> None:
    with Store.open(folder) as store:
        added = store.add_render(a_render(3))
        assert store.find_image(added.pixels) == added.image


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_the_state_of_a_workspace_is_its_owners_alone_also_one_that_was_open_before(folder: Path) -> None:
    def open_to_others() -> list[Path]:
        return [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]

    with Store.open(folder) as store:
        store.add_render(a_render(1))
        assert not open_to_others()
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    with Store.open(folder) as store:
        store.add_render(a_render(2))
        assert not open_to_others()


def test_a_delivery_is_recorded_once_and_only_while_its_file_is_the_one_that_was_written(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    render, path = store.add_render(a_render(1)), tmp_path / "1.png"
    sha256 = hashlib.sha256(b"image").hexdigest()

    def written(run: int, data: bytes = b"image") -> None:
        if not store.is_delivered(render.id, path, True):
            with store.delivering(Outgoing(run, render.id, path, True, sha256)):
                path.write_bytes(data)

    first, second = store.begin_run("generate", {}), store.begin_run("generate", {})
    written(first)
    written(second)
    with Record(folder) as record:
        assert [one.path for one in record.deliveries(first)] == [path]
        assert record.deliveries(second) == ()
    path.write_bytes(b"edited")
    assert not store.is_delivered(render.id, path, True)
    assert not store.is_delivered(render.id, path, False)
    written(second)
    assert store.counts()["deliveries"] == 1
    with Record(folder) as record:
        assert [one.path for one in record.deliveries(second)] == [path]


def test_a_delivery_that_failed_or_was_killed_is_known_by_its_file(store: Store, folder: Path, tmp_path: Path) -> None:
    run, path, other = store.begin_run("generate", {}), tmp_path / "1.png", tmp_path / "2.png"
    render, sha256 = store.add_render(a_render(1)), hashlib.sha256(b"image").hexdigest()

    def fail(path: Path, error: type[BaseException], data: bytes = b"") -> None:
        with store.delivering(Outgoing(run, render.id, path, True, sha256)):
            if data:
                path.write_bytes(data)
            raise error("it went wrong")

    with pytest.raises(StoreError):
        fail(path, StoreError)
    assert store.counts()["deliveries"] == 0
    for place, data in ((path, b"image"), (other, b"")):
        with pytest.raises(KeyboardInterrupt):  # a kill does nothing afterwards either
            fail(place, KeyboardInterrupt, data)
    with Record(folder) as record:
        assert record.deliveries(run) == ()
    with raw(folder) as database:
        database.execute("UPDATE deliveries SET created = '2020-01-01T00:00:00.000000+00:00'")
    Store.open(folder).close()
    with Record(folder) as record:
        assert [one.path for one in record.deliveries(run)] == [path]
    assert store.counts()["deliveries"] == 1
