"""Judging in processes: the same verdicts as here, and a process that dies costs nothing but time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sosie.files.images import read_image
from sosie.loop.judge import Judge, Origin
from sosie.loop.judge_room import JudgingError, Processes, Sitting, _Process
from sosie.loop.judging import make_judge
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = [pytest.mark.once, pytest.mark.processes, pytest.mark.local]

ORIGIN = Origin(prompt="smiling, forest background")


@pytest.fixture
def judge(workspace: Path) -> Iterator[Judge]:
    with Session(open_workspace(workspace)) as session:
        character, recipe = load_character(session.workspace, "mira"), load_recipe(session.workspace, "mini")
        yield make_judge(session, character, recipe, None)[0]


def test_a_process_decides_to_the_digit_what_is_decided_here_and_survives_being_killed(
    judge: Judge, references: list[Path]
) -> None:
    here = {path: judge(read_image(path), ORIGIN) for path in references[:2]}
    assert {score.kind for score in here[references[0]][0].scores} >= {"identity", "defect"}
    with Processes(1) as room:
        room.open(judge)
        for path, decided in here.items():
            by_pixels = room.submit(Sitting(judge, path, ORIGIN, read_image(path))).result()
            by_file = room.submit(Sitting(judge, path, ORIGIN)).result()
            assert (by_pixels.scorecard, by_pixels.verdict) == (by_file.scorecard, by_file.verdict) == decided
        os.kill(process_of(room).pid, signal.SIGKILL)
        judged = room.submit(Sitting(judge, references[0], ORIGIN, read_image(references[0]))).result()
        assert (judged.scorecard, judged.verdict) == here[references[0]]
        assert [finding.code for finding in judged.findings] == ["SOS-J010"]
        assert "killed by signal 9" in judged.findings[0].message
        last = process_of(room)
    assert last.poll() is not None


def process_of(room: Processes) -> Any:
    station: Any = room._stations[0]
    return station._process._process


class Deadly:
    """Cannot be unpickled by a process that lives on."""

    id = "deadly"

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)

    def __call__(self, image: Any, origin: Origin) -> Any:
        raise AssertionError("nobody comes here")


def test_an_image_that_two_processes_died_of_is_an_error(references: list[Path]) -> None:
    with Processes(1) as room, pytest.raises(JudgingError, match=r"exit code 7.*2 times"):
        room.submit(Sitting(Deadly(), references[0], ORIGIN)).result()  # type: ignore[arg-type]


def test_processes_end_at_once_when_the_room_is_closed(monkeypatch: pytest.MonkeyPatch, references: list[Path]) -> None:
    begun = threading.Event()

    def ask(self: Any, sitting: Sitting, image: Any) -> Any:
        begun.set()
        return self._process.stdout.read(1)  # waits for an answer that does not come

    monkeypatch.setattr(_Process, "ask", ask)
    room = Processes(1)
    future = room.submit(Sitting(Sleeping(), references[0], ORIGIN))  # type: ignore[arg-type]
    assert begun.wait(60)
    started = time.monotonic()
    room.close()
    assert time.monotonic() - started < 30
    assert future.done()


class Sleeping:
    """A judge that is never asked."""

    id = "sleeping"
