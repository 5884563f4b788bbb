"""Training on the page: which runs go on, their samples, and what is asked of them, by page and command line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from renders import picture
from studio_page import Studio

from sosie.core import Environment
from sosie.store import Store
from sosie.store.training import Loss, TrainingEnd, TrainingRecords, TrainingStart
from sosie.training.asked.wishes import taken
from sosie.workspace.workspace import open_workspace
from sosie.workspace.writing import locked

JOB = "ab" * 32
LOCK = f"training-{JOB[:16]}"
MACHINE = Environment("3.11", "linux", "cpu", ())
CURVE = "/api/training/1/curve"


@pytest.fixture
def folder(studio: Studio) -> Path:
    """The folder of a run of mira that stands at step 3, with the samples of two steps and a state."""
    folder = studio.root / ".sosie/training" / JOB[:16]
    (folder / "samples").mkdir(parents=True)
    (folder / "state.safetensors").write_bytes(b"state")
    for step, place in ((0, 0), (3, 0), (3, 1)):
        picture(step + place).save(folder / f"samples/step-{step:07d}-{place:02d}.png")
    start = TrainingStart(JOB, ("mira",), "mini", "sdxl", "mini", "0" * 64, "1" * 64, 8, 10, {}, MACHINE, folder)
    with Store.open(studio.root / ".sosie") as store:
        run = store.begin_run("train", {})
    with TrainingRecords(studio.root / ".sosie") as records:
        number = records.begin(run, start)
        for step in (1, 2, 3):
            records.add_loss(number, Loss(step, 1 / step, 1.0, 1e-3), 0.5)
        records.add_judgement(number, 3, {"likeness": 0.6})
        records.flush()
    return folder


def test_a_run_goes_on_while_a_process_holds_it_and_can_be_resumed_when_none_does(studio: Studio, folder: Path) -> None:
    (run,) = studio.json("/api/training")
    assert (run["step"], run["runs"], run["rests"]) == (3, False, True)
    with locked(open_workspace(studio.root), LOCK, "the run"):
        seen: list[Any] = []
        other = threading.Thread(target=lambda: seen.append(studio.json(CURVE)))
        other.start()
        other.join()
    assert (seen[0]["runs"], seen[0]["rests"]) == (True, False)
    assert seen[0]["points"] == [[1, 1.0], [2, 0.5], [3, pytest.approx(1 / 3)]]
    assert seen[0]["samples"] == [{"step": 3, "count": 2}, {"step": 0, "count": 1}]
    assert studio.get("/api/training/1/samples/3/1").headers["content-type"] == "image/webp"
    for path in ("1/samples/3/2", "1/samples/4/0", "2/samples/3/0", "2/curve"):
        assert studio.get(f"/api/training/{path}").status == 404


def test_samples_are_asked_of_a_run_that_goes_on_and_a_delivery_of_one_that_rests_too(
    studio: Studio, folder: Path
) -> None:
    assert studio.post("/api/training/1/ask", {"wish": "sample"}).status == 409
    assert taken(folder) == ()
    studio.json("/api/training/1/ask", {"wish": "deliver"})
    assert taken(folder) == ("deliver",)
    with TrainingRecords(studio.root / ".sosie") as records:
        records.end(1, TrainingEnd("finished", 10))
    assert studio.post("/api/training/1/ask", {"wish": "deliver"}).status == 409
    assert studio.post("/api/training/1/ask", {"wish": "explode"}).status == 422
    assert studio.post("/api/training/9/ask", {"wish": "deliver"}).status == 404


def test_the_command_line_asks_the_same(studio: Studio, folder: Path, sosie: Callable[..., Any]) -> None:
    at = ("--workspace", studio.root)
    done = sosie("train", "mira", "--ask", "deliver", "--json", *at)
    assert (done.code, json.loads(done.out)["id"]) == (0, 1)
    assert "when it is resumed" in done.err
    assert taken(folder) == ("deliver",)
    refused = sosie("train", "mira", "--ask", "sample", *at)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert sosie("train", "mira", "--recipe", "other", "--ask", "deliver", *at).code == 2
