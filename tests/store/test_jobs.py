"""The queue: its order, who works on what, and what is known of a job whose process died."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sosie.core.errors import NotFoundError, UsageError
from sosie.store import Store
from sosie.store.jobs import Jobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    Store.open(tmp_path / ".sosie").close()
    with Jobs(tmp_path / ".sosie") as opened:
        yield opened


def order(jobs: Jobs) -> list[int]:
    return [job.id for job in jobs.all(only_open=True)]


def test_jobs_come_in_the_order_in_which_they_were_put_and_that_can_be_changed(jobs: Jobs) -> None:
    a, b, c = (jobs.add("generate", {"n": n}).id for n in range(3))
    assert order(jobs) == [a, b, c]
    jobs.move(c, a)
    assert order(jobs) == [c, a, b]
    jobs.move(b, a)
    assert order(jobs) == [c, b, a]
    jobs.move(c, None)
    assert order(jobs) == [b, a, c]
    assert jobs.move(a, a).state == "queued"
    following = jobs.next(("generate",))
    assert following is not None
    assert following.id == b
    assert jobs.next(("fetch",)) is None


def test_a_job_runs_while_it_is_held_and_has_the_end_that_was_said(jobs: Jobs) -> None:
    number = jobs.add("generate", {"character": "mira"}).id
    with jobs.working(number) as job:
        assert (job.state, job.request) == ("running", {"character": "mira"})
        assert jobs.get(number).state == "running"
        jobs.end(number, "failed", "no room", "free some")
    ended = jobs.get(number)
    assert (ended.state, ended.message, ended.hint) == ("failed", "no room", "free some")
    with pytest.raises(UsageError, match="is failed"), jobs.working(number):
        pass


def test_a_block_that_says_no_end_leaves_a_stopped_job(jobs: Jobs) -> None:
    number = jobs.add("generate", {}).id
    with jobs.working(number):
        pass
    assert jobs.get(number).state == "stopped"
    with pytest.raises(ZeroDivisionError), jobs.working(jobs.again(number).id):
        1 / 0  # noqa: B018
    assert jobs.get(number).state == "stopped"


HOLDER = """
import sys, time
from pathlib import Path
from sosie.store.jobs import Jobs
with Jobs(Path(sys.argv[1])) as jobs, jobs.working(int(sys.argv[2])):
    print("works", flush=True)
    time.sleep(60)
"""


def test_a_job_whose_process_was_killed_is_stopped_and_never_shown_as_running(jobs: Jobs, tmp_path: Path) -> None:
    number = jobs.add("train", {}).id
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path / ".sosie"), str(number)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"works\n"
        assert jobs.get(number).state == "running"
        with pytest.raises(UsageError, match="worked on already"), jobs.working(number):
            pass
        holder.kill()
    lost = jobs.get(number)
    assert (lost.state, lost.hint) == ("stopped", f"sosie job continue {number}")
    assert jobs.again(number).state == "queued"


def test_a_continued_job_comes_first(jobs: Jobs) -> None:
    a, b = (jobs.add("generate", {}).id for _ in range(2))
    with jobs.working(a):
        pass
    jobs.add("generate", {})
    assert order(jobs)[-1] == a
    jobs.again(a)
    assert order(jobs)[:2] == [a, b]


def test_cancelling_ends_what_waits_at_once_and_asks_what_runs(jobs: Jobs) -> None:
    waiting, running = (jobs.add("generate", {}).id for _ in range(2))
    assert jobs.cancel(waiting).state == "cancelled"
    with pytest.raises(UsageError, match="nothing to cancel"):
        jobs.cancel(waiting)
    with jobs.working(running):
        asked = jobs.cancel(running)
        assert (asked.state, asked.ending, jobs.is_ending(running)) == ("running", True, True)
        jobs.end(running, "cancelled")
    assert not jobs.get(running).ending


def test_what_is_told_is_kept_in_order_and_of_progress_the_newest(jobs: Jobs) -> None:
    number = jobs.add("generate", {}).id
    last = jobs.newest()
    with jobs.working(number):
        jobs.progress(number, "step 1", (1.0, 4.0), None)
        jobs.tell(number, "note", {"text": "x"})
        jobs.progress(number, "step 2", (2.0, 4.0), 7.5)
        jobs.end(number, "done")
    told = jobs.events(last, number)
    assert [event.kind for event in told] == ["state", "note", "progress", "state"]
    assert [event.id for event in told] == sorted(event.id for event in told)
    assert told[2].table == {"what": "step 2", "done": 2.0, "total": 4.0, "remaining": 7.5}
    assert jobs.newest() == told[-1].id
    assert jobs.events(told[1].id) == told[2:]
    done = jobs.get(number)
    assert (done.what, done.done, done.total, done.remaining) == ("step 2", 2.0, 4.0, None)


def test_a_number_that_is_no_job_is_said_so(jobs: Jobs) -> None:
    for ask in (jobs.get, jobs.cancel, jobs.again, lambda number: jobs.move(number, None)):
        with pytest.raises(NotFoundError, match="no job 7"):
            ask(7)
