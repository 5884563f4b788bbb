"""Several processes on one store, and kill -9 at any moment."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from catalogues import check_whole, raw
from renders import CARD, KEEP, a_render

from sosie.store import Store, catalogue

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


def killed_after(worker: Worker, seconds: float, count: int = 0) -> list[str]:
    """What a worker said that is killed so many seconds after it began or had finished `count` plans."""
    assert worker.heard.recv() == "open"
    plans = [worker.heard.recv() for _ in range(count)]
    time.sleep(seconds)
    worker.process.kill()
    plans += worker.finished()
    assert worker.process.exitcode == -signal.SIGKILL
    return plans


def test_kill_9_at_any_moment_loses_nothing_finished_and_leaves_no_half_record(folder: Path) -> None:
    chance, kills, done = random.Random(20), 20, list[str]()
    for kill in range(kills):
        done += killed_after(Worker(folder, 1000 * kill, 1000), chance.uniform(0.0, 0.05), kill % 4)
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
    versions = [(number,) for number, _ in enumerate(catalogue.migrations(), 1)]
    for attempt in range(3):
        here = folder.with_name(f".sosie{attempt}")
        workers = [Worker(here, 0, 0) for _ in range(4)]
        for worker in workers:
            worker.finished()
        assert [worker.process.exitcode for worker in workers] == [0] * 4
        with raw(here) as database:
            assert database.execute("SELECT version FROM migrations").fetchall() == versions
