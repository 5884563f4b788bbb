"""The store: exact round trips, and nothing lost or half written whatever happens."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from renders import CARD, ENVIRONMENT, GUIDE, KEEP, a_render, picture

from sosie.core import (
    CohortRate,
    Finding,
    Score,
    Scorecard,
    Verdict,
)
from sosie.core.errors import StoreError
from sosie.files.images import read_image
from sosie.store import Store, StoredRender, catalogue, images, pixels_digest
from sosie.store.rows import Notes
from sosie.store.store import TABLES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".sosie"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.open(folder) as opened:
        yield opened


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
    store.record_delivery(run, render.id, Path("out/1.png"), provenance=False)
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
    assert delivery == (run, render.id, render.plan.id, render.pixels, "out/1.png", 0)


def test_text_that_utf8_cannot_hold_is_stored(store: Store) -> None:
    odd = os.fsdecode(b"caf\xe9\x00.png")
    run = store.begin_run("generate", {"prompt": odd})
    render = store.add_render(a_render(1, prompt=f"portrait {odd}"))
    store.record_delivery(run, render.id, Path(odd), provenance=True)
    store.add_findings(run, [Finding("SOS-R001", "error", odd, odd)])
    found = store.find_render(render.plan.id, "fake")
    assert found is not None
    assert found.plan.prompt.endswith(odd)


def test_records_that_name_nothing_stored_are_refused(store: Store) -> None:
    for refused in (
        lambda: store.end_run(9, "done"),
        lambda: store.add_findings(9, [Finding("SOS-R001", "info", "a", "b")]),
        lambda: store.add_scorecard(9, "gate", CARD, KEEP),
        lambda: store.record_delivery(9, 9, Path("x"), provenance=True),
    ):
        with pytest.raises(StoreError, match="expected"):
            refused()
    assert set(store.counts().values()) == {0}


# --- scorecards ---

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RATES = st.none() | st.builds(
    CohortRate, st.text(), st.integers(0, 10**6), st.integers(0, 10**6), fmr=NUMBERS, upper95=NUMBERS
)
SCORES = st.builds(
    Score,
    kind=st.sampled_from(["identity", "defect"]),
    name=st.text(),
    value=st.none() | NUMBERS,
    threshold=st.none() | NUMBERS,
    passed=st.none() | st.booleans(),
    reason=st.text(),
    unit=st.text(),
    low=NUMBERS,
    high=NUMBERS,
    higher_is_better=st.booleans(),
    rate=RATES,
    joint=RATES,
    others=RATES,
    guided_by=st.lists(st.text(), max_size=3).map(tuple),
)
VERDICTS = st.builds(
    Verdict, st.sampled_from(["keep", "retry", "repair", "reject"]), st.lists(st.text(), max_size=3).map(tuple)
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scores=st.lists(SCORES, max_size=4).map(tuple), verdict=VERDICTS)
def test_every_scorecard_and_verdict_comes_back_equal(
    store: Store, scores: tuple[Score, ...], verdict: Verdict
) -> None:
    render, gate = store.add_render(a_render(1)), f"gate {store.counts()['scorecards']}"
    store.add_scorecard(render.id, gate, Scorecard(scores), verdict)
    assert store.find_scorecard(render.id, gate) == (Scorecard(scores), verdict)


def test_a_gate_judges_a_render_once_and_another_gate_anew(store: Store) -> None:
    render = store.add_render(a_render(1))
    store.add_scorecard(render.id, "one", CARD, KEEP)
    store.add_scorecard(render.id, "one", Scorecard(()), Verdict("reject"))
    store.add_scorecard(render.id, "two", Scorecard(CARD.scores[:1]), Verdict("retry", ("why",)))
    assert store.find_scorecard(render.id, "one") == (CARD, KEEP)
    assert store.find_scorecard(render.id, "two") == (Scorecard(CARD.scores[:1]), Verdict("retry", ("why",)))
    assert store.counts()["scores"] == len(CARD.scores) + 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused_and_not_stored_as_none(store: Store, bad: float) -> None:
    render = store.add_render(a_render(1))
    for score in (
        Score("defect", "noise", bad, 0.1, passed=None),
        replace(CARD.scores[0], joint=CohortRate("c", 1, 0, 0.0, bad)),
    ):
        with pytest.raises(StoreError, match=r"holds (nan|inf); expected finite"):
            store.add_scorecard(render.id, "gate", Scorecard((CARD.scores[0], score)), KEEP)
    assert store.counts()["scorecards"] == 0


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
    store.record_delivery(run, lost.id, Path("out/1.png"), provenance=True)
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


@pytest.mark.parametrize("ending", ["part", "tmp"], ids=["of this version", "of earlier ones"])
def test_a_sweep_takes_old_leftovers_and_nothing_else(store: Store, folder: Path, ending: str) -> None:
    kept = store.add_render(a_render(1)).image
    orphan = images.write(folder / "images", images.encode(picture(2)))
    fresh = images.write(folder / "images", images.encode(picture(3)))
    temporary = kept.with_name(f".{'0' * 64}.abc.{ending}")
    temporary.write_bytes(b"half")
    with raw(folder) as database:
        database.execute("UPDATE migrations SET applied = '2020-01-01T00:00:00.000000+00:00'")
    foreign = kept.with_name("earlier.png")
    foreign.write_bytes(b"of a catalogue that was moved aside")
    hour_ago, long_ago = time.time() - 3600, 1_500_000_000
    for path in (kept, orphan, temporary):
        os.utime(path, (hour_ago, hour_ago))
    os.utime(foreign, (long_ago, long_ago))
    assert set(store.sweep(age=1800)) == {orphan, temporary}
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


# --- opening ---


def test_a_catalogue_of_version_0_is_migrated(folder: Path) -> None:
    folder.mkdir()
    with raw(folder) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (0,)
    with Store.open(folder) as store:
        store.add_render(a_render(1))
    with raw(folder) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(catalogue.migrations()),)
        tables = database.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
        )
        assert set(tables) == {(name, 1) for name in (*TABLES, "migrations")}


def test_a_later_migration_runs_once_and_keeps_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(folder) as store:
        added = store.add_render(a_render(1))
    steps = [
        *catalogue.migrations(),
        "CREATE TABLE machines (id INTEGER PRIMARY KEY) STRICT;\nINSERT INTO machines VALUES (1);",
    ]
    monkeypatch.setattr(catalogue, "migrations", lambda: steps)
    for _ in range(2):
        with Store.open(folder) as store:
            assert store.find_render(added.plan.id, "fake") == added
    with raw(folder) as database:
        assert database.execute("SELECT * FROM machines").fetchall() == [(1,)]
        assert database.execute("PRAGMA user_version").fetchone() == (len(steps),)


def test_a_migration_that_fails_leaves_the_version_before_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(folder) as store:
        added = store.add_render(a_render(1))
    broken = [*catalogue.migrations(), "CREATE TABLE machines (id INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);"]
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "migrations", lambda: broken)
        with pytest.raises(StoreError, match="nowhere"):
            Store.open(folder)
    with Store.open(folder) as store:
        assert store.find_render(added.plan.id, "fake") == added
    with raw(folder) as database:
        assert database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'machines'").fetchone() == (0,)


def test_a_catalogue_of_a_newer_sosie_is_refused_and_left_alone(folder: Path) -> None:
    Store.open(folder).close()
    with raw(folder) as database:
        database.execute("PRAGMA user_version = 99")
    before = (folder / "catalogue.sqlite").read_bytes()
    with pytest.raises(StoreError, match="version 99, made by a newer Sosie; expected version 3") as caught:
        Store.open(folder)
    assert "--upgrade" in caught.value.hint
    assert (folder / "catalogue.sqlite").read_bytes() == before


def test_a_garbage_catalogue_is_named_and_the_hint_works(folder: Path) -> None:
    with Store.open(folder) as store:
        image = store.add_render(a_render(1)).image
    garbage = random.Random(1).randbytes(8192)
    (folder / "catalogue.sqlite").write_bytes(garbage)
    with pytest.raises(StoreError, match="is damaged") as caught:
        Store.open(folder)
    assert str(folder / "catalogue.sqlite") in caught.value.message
    assert (folder / "catalogue.sqlite").read_bytes() == garbage
    command = caught.value.hint.split("   #")[0]
    subprocess.run(["sh", "-ec", command], check=True)
    with Store.open(folder) as store:
        assert store.counts()["renders"] == 0
    assert (folder / "damaged" / image.relative_to(folder)).exists()
    assert (folder / "damaged" / "catalogue.sqlite").read_bytes() == garbage


def test_damage_inside_the_catalogue_is_a_store_error(folder: Path) -> None:
    with Store.open(folder) as store:
        plans = [store.add_render(a_render(seed)).plan for seed in range(5)]
    path = folder / "catalogue.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"), Store.open(folder) as store:
        [store.find_render(stored.id, "fake") for stored in plans]


def test_a_new_catalogue_that_another_process_holds_is_waited_for(folder: Path) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / "catalogue.sqlite", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, lambda: other.execute("ROLLBACK"))
        release.start()
        with Store.open(folder) as store:
            assert store.counts()["renders"] == 0
        release.join()


def test_a_catalogue_that_stays_held_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_WAIT", 0.1)
    with Store.open(folder) as store, raw(folder) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="held by another process; expected") as caught:
            store.add_render(a_render(1))
        assert "wait for the other command" in caught.value.hint
        other.rollback()
        assert store.add_render(a_render(1)).id == 1


def test_a_store_without_its_workspace_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        Store.open(tmp_path / "typo" / ".sosie")
    assert list(tmp_path.iterdir()) == []


# --- full and read-only disks ---


@contextmanager
def mounted(*command: str | Path) -> Iterator[Path]:
    folder = Path(command[-1])
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "small") as small:
        done: list[StoredRender] = []
        with Store.open(small / ".sosie") as store:
            with pytest.raises(StoreError, match="the disk is full") as caught:
                done.extend(store.add_render(a_render(seed)) for seed in range(200))
            assert str(small / ".sosie") in caught.value.message
            assert "expected room" in caught.value.message
            assert "free some space" in caught.value.hint
            assert len(done) > 5
            assert not list(small.glob("**/*.part"))
            assert [store.find_render(stored.plan.id, "fake") for stored in done] == done
        done_images = {stored.image for stored in done}
        for path in small.glob(".sosie/images/*/*.png"):
            if path not in done_images:
                path.unlink()
        with Store.open(small / ".sosie") as store:
            assert [store.find_render(stored.plan.id, "fake") for stored in done] == done


@pytest.mark.parametrize("left", [0, 8, 24, 48, 100])
def test_a_disk_that_is_full_at_the_first_use_is_named(tmp_path: Path, left: int) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "small") as small:
        with suppress(OSError), (small / "fill").open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        os.truncate(small / "fill", (small / "fill").stat().st_size - 1024 * left)
        with pytest.raises(StoreError, match="the disk is full"), Store.open(small / ".sosie") as store:
            [store.add_render(a_render(seed)) for seed in range(30)]
        (small / "fill").unlink()
        with Store.open(small / ".sosie") as store:
            store.add_render(a_render(1))
        check_whole(small / ".sosie")


def test_a_read_only_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / "disk") as disk:
        with Store.open(disk / ".sosie") as store:
            done = store.add_render(a_render(1))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for folder in (disk / ".sosie", disk / ".other"):
            with pytest.raises(StoreError, match="is read-only; expected") as caught:
                Store.open(folder)
            assert str(folder) in caught.value.message
            assert "--workspace" in caught.value.hint
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with Store.open(disk / ".sosie") as store:
            assert store.find_render(done.plan.id, "fake") == done


def test_images_that_become_read_only_in_mid_run_are_an_error_and_lose_nothing(store: Store) -> None:
    done = store.add_render(a_render(1))
    with mounted("--bind", store.folder / "images", store.folder / "images") as bound:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(bound)], check=True)
        with pytest.raises(StoreError, match="is read-only; expected"):
            store.add_render(a_render(2))
        assert store.find_render(done.plan.id, "fake") == done
    assert store.add_render(a_render(2)).id == 2


def test_an_image_that_cannot_be_synced_leaves_no_row_and_no_temporary(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def fail_for_temporaries(descriptor: int) -> None:
        if temporaries := list(folder.glob("images/*/.*.part")):
            seen.extend(temporaries)
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_temporaries)
        with pytest.raises(StoreError, match="Input/output error"):
            store.add_render(a_render(1))
    assert len(seen) == 1
    assert store.counts()["renders"] == 0
    assert not [path for path in folder.glob("images/*/*") if path.is_file()]


# --- several processes, and kill -9 ---

# Each worker is a process of its own; the server it is forked from has imported what takes long.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "hypothesis.strategies", "sosie.store", "PIL.PngImagePlugin"])


def work(folder: Path, first: int, count: int, says: Connection) -> None:
    """What a worker does: says "open", then every plan that is finished."""
    says.send("open")
    with Store.open(folder) as store:
        for seed in range(first, first + count):
            stored = store.add_render(a_render(seed))
            store.add_scorecard(stored.id, "gate", CARD, KEEP)
            says.send(stored.plan.id)


class Worker:
    """A process at work; `kill` is SIGKILL, `finished` waits and gives the plans it said."""

    def __init__(self, folder: Path, first: int, count: int) -> None:
        self.heard, says = PROCESSES.Pipe(duplex=False)
        self.process = PROCESSES.Process(target=work, args=(folder, first, count, says), daemon=True)
        self.process.start()
        says.close()

    def finished(self) -> list[str]:
        plans: list[str] = []
        with suppress(EOFError):  # half a message was cut off by the kill: never said
            while True:
                plans.append(self.heard.recv())
        self.process.join(60)
        return [plan for plan in plans if plan != "open"]


def killed_after(worker: Worker, seconds: float) -> list[str]:
    assert worker.heard.recv() == "open"
    time.sleep(seconds)
    worker.process.kill()
    plans = worker.finished()
    assert worker.process.exitcode == -signal.SIGKILL
    return plans


def test_kill_9_at_any_moment_loses_nothing_finished_and_leaves_no_half_record(folder: Path) -> None:
    chance, kills, done = random.Random(20), 20, list[str]()
    for kill in range(kills):
        done += killed_after(Worker(folder, 1000 * kill, 1000), chance.uniform(0.0, 0.2))
    with Store.open(folder) as store:
        renders = check_whole(folder)
        for identity in done:
            stored = store.find_render(identity, "fake")
            assert stored is not None
            assert store.find_scorecard(stored.id, "gate") == (CARD, KEEP)
        assert store.findings() == ()
        assert kills < len(done) <= renders <= len(done) + kills
        store.sweep(age=-1.0)
        assert len(list(folder.glob("images/*/*"))) == renders


def test_kill_9_while_the_store_is_made_leaves_one_that_opens(folder: Path) -> None:
    for kill in range(10):
        here = folder.with_name(f".sosie{kill}")
        done = killed_after(Worker(here, 0, 1000), 0.002 * kill)
        with Store.open(here) as store:
            store.add_render(a_render(5000))
            assert all(store.find_render(identity, "fake") for identity in done)
        assert check_whole(here) >= 1


def test_two_processes_that_begin_at_once_store_each_plan_once(folder: Path) -> None:
    for attempt in range(2):
        here = folder.with_name(f".sosie{attempt}")
        workers = [Worker(here, 0, 25) for _ in range(2)]
        plans = [worker.finished() for worker in workers]
        assert [worker.process.exitcode for worker in workers] == [0, 0]
        assert plans[0] == plans[1]
        assert len(set(plans[0])) == 25
        assert check_whole(here) == 25
        with Store.open(here) as store:
            assert store.counts()["scorecards"] == 25
            assert store.findings() == ()


def test_processes_that_open_a_new_store_at_once_migrate_it_once(folder: Path) -> None:
    for attempt in range(3):
        here = folder.with_name(f".sosie{attempt}")
        workers = [Worker(here, 0, 0) for _ in range(4)]
        for worker in workers:
            worker.finished()
        assert [worker.process.exitcode for worker in workers] == [0] * 4
        with raw(here) as database:
            assert database.execute("SELECT version FROM migrations").fetchall() == [(1,), (2,), (3,)]


def test_a_store_of_the_first_version_is_migrated_with_all_it_holds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalogue.migrations()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "migrations", lambda: first)
        Store.open(folder).close()
        with raw(folder) as database:
            assert "notes" not in [row[1] for row in database.execute("PRAGMA table_info(renders)")]
    with Store.open(folder) as store:
        added = store.add_render(a_render(1))
        assert store.find_render(added.plan.id, "fake") == added


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
