"""Working on jobs: recorded, cancelled, continued after a kill, and the same from the command line."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sosie.api.jobs import work as working
from sosie.api.jobs.process import Foreman, log_file
from sosie.api.jobs.queue import add_job, cancel_job, continue_job, list_jobs, open_jobs
from sosie.api.jobs.work import Recorder, work
from sosie.core import Note, Preview, Progress
from sosie.core.errors import ConfigError, NotFoundError, UsageError
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

ASK = {"character": "mira", "prompt": "smiling", "n": 1, "engine": "fake"}


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + 5 * seconds  # machines are busy
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def state(workspace: Workspace, number: int) -> str:
    with open_jobs(workspace) as jobs:
        return jobs.get(number).state


def test_a_job_is_done_and_everything_it_told_is_on_record(workspace: Path) -> None:
    opened = open_workspace(workspace)
    job = add_job(opened, "generate", ASK)
    assert job.request["recipe"] == ""
    with Session(opened) as session:
        told = list(work(session, job.id))
        with open_jobs(opened) as jobs:
            done, events = jobs.get(job.id), jobs.events(0, job.id)
        kept = [event.table for event in events if event.kind == "result" and event.table["noun"] == "Delivered"]
        stored = session.store.find_render(kept[0]["plan"], "fake")
    assert (done.state, done.message) == ("done", "")
    assert stored is not None
    assert (kept[0]["render"], kept[0]["sha256"]) == (stored.id, stored.sha256)
    assert Path(kept[0]["image"]).is_file()
    assert [event.table["state"] for event in events if event.kind == "state"] == ["queued", "running", "done"]
    assert {event.table["text"] for event in events if event.kind == "note"} == {
        event.text for event in told if isinstance(event, Note)
    }


def test_a_job_that_fails_says_why_and_can_be_continued(workspace: Path) -> None:
    opened = open_workspace(workspace)
    job = add_job(opened, "generate", {**ASK, "stages": ["upscale"], "engine": "fake"})
    with Session(opened) as session:
        list(work(session, job.id))
        (failed,) = list_jobs(opened)
        assert failed.state == "failed"
        assert failed.message
        assert continue_job(opened, job.id).state == "queued"


@pytest.mark.parametrize(
    ("kind", "table", "error"),
    [
        ("generate", {}, ConfigError),
        ("generate", {"character": "nobody"}, NotFoundError),
        ("generate", {"character": "../mira"}, UsageError),
        ("generate", {"character": "mira", "recipe": "../mini"}, NotFoundError),
        ("generate", {"character": "mira", "source": "../../etc/passwd"}, UsageError),
        ("generate", {"character": "mira", "source": "0" * 64}, NotFoundError),
        ("generate", {"character": "mira", "engine": "nothing"}, UsageError),
        ("generate", {"character": "mira", "size": "wide"}, ConfigError),
        ("generate", {"character": "mira", "out": "/etc"}, ConfigError),
        ("train", {"characters": []}, UsageError),
        ("experiment", {"name": "../x"}, UsageError),
        ("experiment", {"name": "nothing"}, NotFoundError),
        ("dataset", {"character": "nobody", "n": 3}, NotFoundError),
        ("fetch", {"recipe": "https://example.org/x"}, NotFoundError),
        ("erase", {}, NotFoundError),
    ],
)
def test_what_cannot_be_done_is_refused_before_it_is_in_the_queue(
    workspace: Path, kind: str, table: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        add_job(open_workspace(workspace), kind, table)
    assert list_jobs(open_workspace(workspace)) == ()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, as in a job's own process; a shell ignores it for what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_cancelled_job_ends_whatever_it_waits_for(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    opened = open_workspace(workspace)
    job = add_job(opened, "generate", ASK)
    begun = threading.Event()

    def endless(*_: object) -> Any:
        yield Note("begun")
        begun.set()
        threading.Event().wait(60)

    monkeypatch.setattr(working, "do", endless)
    cancel = threading.Thread(target=lambda: (begun.wait(), cancel_job(opened, job.id)))
    cancel.start()
    with Session(opened) as session:
        assert [event.text for event in work(session, job.id) if isinstance(event, Note)] == ["begun"]
    cancel.join()
    assert state(opened, job.id) == "cancelled"


def test_an_interrupt_by_somebody_else_stops_the_job_and_goes_on(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_workspace(workspace)
    job = add_job(opened, "generate", ASK)

    def interrupted(*_: object) -> Any:
        yield Note("begun")
        raise KeyboardInterrupt

    monkeypatch.setattr(working, "do", interrupted)
    with Session(opened) as session, pytest.raises(KeyboardInterrupt):
        list(work(session, job.id))
    assert state(opened, job.id) == "stopped"


def test_time_left_is_foretold_by_this_run_alone(workspace: Path) -> None:
    opened, now = open_workspace(workspace), [0.0]
    job = add_job(opened, "generate", ASK)
    with open_jobs(opened) as jobs:
        recorder = Recorder(jobs, job.id, lambda: now[0])
        left: list[float | None] = []
        for at, done in ((0.0, 50.0), (10.0, 60.0), (20.0, 70.0)):
            now[0] = at
            recorder.add(Progress("drawn", done, 100.0))
            left.append(jobs.get(job.id).remaining)
    assert left == [None, pytest.approx(40.0), pytest.approx(30.0)]


def test_the_picture_of_what_is_drawn_is_kept_while_it_is_drawn(workspace: Path) -> None:
    opened = open_workspace(workspace)
    job = add_job(opened, "generate", ASK)
    with open_jobs(opened) as jobs, jobs.working(job.id):
        recorder = Recorder(jobs, job.id, lambda: 0.0)
        for colour in ("red", "blue"):
            buffer = io.BytesIO()
            Image.new("RGB", (64, 64), colour).save(buffer, "JPEG")
            recorder.add(Preview("generate", 1, 2, buffer.getvalue(), "jpeg"))
            recorder.settle()
        (kept,) = [event for event in jobs.events(0, job.id) if event.kind == "preview"]
        with Image.open(io.BytesIO(base64.b64decode(kept.table["picture"]))) as image:
            red, _, blue = image.convert("RGB").getpixel((9, 9))  # type: ignore[misc]
        assert blue > 200 > red + 150
        jobs.end(job.id, "done")
        assert "preview" not in {event.kind for event in jobs.events(0, job.id)}


@pytest.mark.once
@pytest.mark.processes
def test_a_killed_process_leaves_a_job_that_is_continued_to_its_end(workspace: Path) -> None:
    opened = open_workspace(workspace)
    job = add_job(opened, "generate", {**ASK, "n": 400, "attempts": 1})
    foreman = Foreman(opened)
    foreman.look()
    (process,) = foreman._at_work.values()
    with open_jobs(opened) as jobs:
        wait_until(lambda: any(event.kind == "result" for event in jobs.events(0, job.id)))
        assert jobs.get(job.id).state == "running"
        process.kill()
        process.wait()
        lost = jobs.get(job.id)
        assert (lost.state, lost.hint) == ("stopped", f"sosie job continue {job.id}")
        jobs.again(job.id)
        foreman.look()
        wait_until(lambda: jobs.get(job.id).state == "running")
        foreman.close()  # as when the server ends: the job is put away
        assert jobs.get(job.id).state == "stopped", log_file(opened).read_text()
        jobs.again(job.id)
        foreman.look()
        wait_until(lambda: jobs.get(job.id).state == "running")
        cancel_job(opened, job.id)
        wait_until(lambda: jobs.get(job.id).state == "cancelled", 20)
    foreman.close()
    _dismiss(opened)


@pytest.mark.once
def test_what_a_job_of_the_page_has_loaded_a_command_draws_with(workspace: Path, sosie: Callable[..., Any]) -> None:
    def worker() -> dict[str, Any]:
        told: dict[str, Any] = json.loads(sosie("worker", "status", "--json", "--workspace", workspace).out)
        return told

    opened = open_workspace(workspace)
    job = add_job(opened, "generate", {**ASK, "seed": 3})
    with Session(opened) as session:
        list(work(session, job.id))
    first = worker()
    words = ("generate", "mira", "laughing", "-n", 1, "--engine", "fake", "--keep-loaded", 1, "--workspace", workspace)
    assert sosie(*words, "--out", workspace / "out").code == 0
    second = worker()
    _dismiss(opened)
    assert first["served"] > 0
    assert (second["pid"], second["served"] > first["served"]) == (first["pid"], True)


def _dismiss(workspace: Workspace) -> None:
    from sosie.api.resident import stop_worker

    stop_worker(workspace)


def test_the_command_line_does_what_the_queue_can(workspace: Path, sosie: Callable[..., Any]) -> None:
    def job(*words: str) -> list[dict[str, Any]]:
        done = sosie("job", *words, "--json", "--workspace", workspace)
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    numbers = [job("add", "generate", json.dumps({**ASK, "seed": seed}))[0]["id"] for seed in (1, 2, 3)]
    job("move", str(numbers[2]), "--before", str(numbers[0]))
    assert [one["id"] for one in job("list")] == [numbers[2], numbers[0], numbers[1]]
    assert job("cancel", str(numbers[2]))[0]["state"] == "cancelled"
    assert job("cancel", str(numbers[1]))[0]["state"] == "cancelled"
    assert job("continue", str(numbers[2]))[0]["state"] == "queued"
    assert [one["state"] for one in job("run")] == ["done", "done"]
    assert [one["state"] for one in job("list", "--all")] == ["done", "cancelled", "done"]
    assert job("list") == []
    shown = sosie("job", "list", "--all", "--workspace", workspace).out.splitlines()
    assert shown[0].split("\t")[1:5] == ["done", "-", "-", "generate mira: smiling"]


def test_a_request_that_is_no_object_is_refused(workspace: Path, sosie: Callable[..., Any]) -> None:
    done = sosie("job", "add", "generate", "[1]", "--workspace", workspace)
    assert (done.code, done.out) == (2, "")
    assert "is no JSON object" in done.err


def test_nothing_heavy_is_loaded_to_look_at_the_queue(workspace: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from sosie.api.jobs.queue import list_jobs
from sosie.workspace.workspace import open_workspace
list_jobs(open_workspace(Path({str(workspace)!r})))
print(*{{"torch", "cv2", "fastapi"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
