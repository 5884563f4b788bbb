"""The record of a store: equal to what was stored, of one moment, and never written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from renders import CARD, ENVIRONMENT, KEEP, a_render, deliver

from sosie.core import Finding, Scorecard, Verdict
from sosie.core.errors import StoreError
from sosie.store import Store
from sosie.store.record import Delivery, Record, StoredAttempt
from sosie.store.training import Loss, TrainingEnd, TrainingRecords, TrainingStart

RETRY = Verdict("retry", ("sface 0.20, at least 0.40 was expected",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of two runs, three renders and a training run."""
    path = tmp_path / "a #1?" / ".sosie"  # letters that mean something in a URI
    path.parent.mkdir()
    with Store.open(path) as store:
        first, second, other = (store.add_render(a_render(seed)) for seed in (1, 2, 3))
        run = store.begin_run("generate", {"n": 2})
        store.add_scorecard(first.id, "gate", CARD, KEEP)
        store.add_scorecard(second.id, "gate", Scorecard(()), RETRY)
        store.add_scorecard(other.id, "another gate", CARD, KEEP)
        deliver(store, run, first.id, Path("/out/a.png"), True)
        deliver(store, run, first.id, Path("/out/b.png"), False)
        store.add_findings(run, [Finding("SOS-R001", "info", "mini", "said", "")])
        store.end_run(run, "done")
        begun = store.begin_run("train", {})
    with TrainingRecords(path) as records:
        start = ("job", ("mira",), "mini", "sdxl", "mini", "", "", 8, 2, {}, ENVIRONMENT, path)
        number = records.begin(begun, TrainingStart(*start))
        records.add_loss(number, Loss(1, 0.5, 1.0, 0.001), 2.0)
        records.add_judgement(number, 1, {"likeness": 0.6})
        records.end(number, TrainingEnd("finished", 1, best=1))
    return path


def test_runs_come_back_the_newest_first(folder: Path) -> None:
    with Record(folder) as record:
        train, generate = record.runs()
        assert (generate.command, generate.arguments, generate.outcome) == ("generate", {"n": 2}, "done")
        assert generate.started <= generate.finished
        assert (train.command, train.finished, train.outcome) == ("train", "", "")
        assert record.runs("train") == (train,)
        assert [finding.code for finding in record.findings(generate.id)] == ["SOS-R001"]
        assert record.deliveries(train.id) == ()


def test_attempts_are_what_was_stored_with_their_verdicts_and_files(folder: Path) -> None:
    with Store.open(folder) as store, Record(folder) as record:
        first, second = (record.attempt(number, "gate") for number in (1, 2))
        run = record.runs("generate")[0].id
        assert first.render == store.find_render(a_render(1).plan.id, "fake")
        delivered = (Delivery(run, Path("/out/a.png"), True), Delivery(run, Path("/out/b.png"), False))
        assert first == StoredAttempt(first.render, CARD, KEEP, delivered)
        assert record.deliveries(run) == delivered
        assert (second.verdict, second.deliveries) == (RETRY, ())
        assert (first.kept, second.kept) == (True, False)
        assert first.render.image.is_file()


def test_every_judgement_of_a_character_can_be_read(folder: Path) -> None:
    with Record(folder) as record:
        assert [(one.render.id, one.kept) for one in record.judged("mira")] == [(1, True), (2, False), (3, True)]
        assert record.judged() == record.judged("mira")
        assert record.judged("someone") == ()


@pytest.mark.parametrize(("number", "gate", "said"), [(9, "gate", "no render 9"), (3, "gate", "no scorecard")])
def test_an_attempt_that_is_not_on_record_is_an_error(folder: Path, number: int, gate: str, said: str) -> None:
    with Record(folder) as record, pytest.raises(StoreError, match=said):
        record.attempt(number, gate)


def test_training_runs_are_read_with_their_curves(folder: Path) -> None:
    with Record(folder) as record:
        (run,) = record.training.runs("mira")
        assert (run.end.cause, run.end.best, run.seconds) == ("finished", 1, 2.0)
        assert record.training.find("job") == run
        assert record.training.losses(run.id) == (Loss(1, 0.5, 1.0, 0.001),)
        assert record.training.judgements(run.id) == ((1, {"likeness": 0.6}),)


def test_a_record_is_of_one_moment_and_hinders_no_writer(folder: Path) -> None:
    with Store.open(folder) as store, Record(folder) as record:
        before = record.judged()
        store.add_scorecard(store.add_render(a_render(4)).id, "gate", CARD, KEEP)
        assert record.judged() == before
        with Record(folder) as later:
            assert len(later.judged()) == len(before) + 1


def test_a_record_cannot_write_and_changes_no_byte(folder: Path) -> None:
    before = (folder / "catalogue.sqlite").read_bytes()
    with Record(folder) as record:
        with pytest.raises(StoreError):
            record._snapshot.rows("DELETE FROM runs")
        record.judged()
    assert (folder / "catalogue.sqlite").read_bytes() == before


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        Record(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [1, 99])
def test_a_store_of_another_version_is_an_error(folder: Path, version: int) -> None:
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as database:
        database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StoreError, match=f"version {version}"):
        Record(folder)
