"""Opening a store: made, migrated, refused or named as damaged."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
from catalogues import raw
from renders import a_render

from sosie.core.errors import StoreError
from sosie.store import Store, catalogue
from sosie.store.store import TABLES


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
    with pytest.raises(StoreError, match="version 99, made by a newer Sosie; expected version 8") as caught:
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


def test_a_store_of_the_first_version_is_migrated_with_all_it_holds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalogue.migrations()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(catalogue, "migrations", lambda: first)
        folder.mkdir()
        catalogue.Catalogue(folder / "catalogue.sqlite").close()
        with raw(folder) as database:
            assert "notes" not in [row[1] for row in database.execute("PRAGMA table_info(renders)")]
    with Store.open(folder) as store:
        added = store.add_render(a_render(1))
        assert store.find_render(added.plan.id, "fake") == added
