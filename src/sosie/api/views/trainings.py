"""Training runs as they are watched: which go on, their curve with its samples, and what is asked of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sosie.api.lines import json_of
from sosie.core.errors import NotFoundError, StoreError, UsageError
from sosie.store.record import Record
from sosie.store.training import StoredTraining
from sosie.training.asked.wishes import Wish, wish_for
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import locked

MOST_POINTS = 400
"""Of a loss curve: more than a screen can show."""

DELIVERED = ("finished", "over-trained", "asked")
"""Causes of the end after which a run has given what it can."""

_SAMPLE = re.compile(r"step-(\d{7})-(\d\d)\.png")


def list_trainings(workspace: Workspace) -> list[dict[str, Any]]:
    """Every run on record, the newest first: `runs` while a process works on it, `rests` if it can be resumed."""
    with Record(workspace.state) as record:
        return [_line(workspace, run) for run in record.training.runs()]


def describe_training(workspace: Workspace, number: int) -> dict[str, Any]:
    """A run with its loss curve, thinned, its judgements, and how many samples there are of each step."""
    with Record(workspace.state) as record:
        run = _find(record, number)
        losses = record.training.losses(number)
        judged = [{"step": step, "scores": scores} for step, scores in record.training.judgements(number)]
    every = max(1, len(losses) // MOST_POINTS)
    samples: dict[int, int] = {}
    for path in (_folder(workspace, run) / "samples").glob("step-*.png"):
        if found := _SAMPLE.fullmatch(path.name):
            samples[int(found[1])] = samples.get(int(found[1]), 0) + 1
    points = [[one.step, one.loss] for one in losses[::every]]
    shown = [{"step": step, "count": samples[step]} for step in sorted(samples, reverse=True)]
    return {**_line(workspace, run), "points": points, "judged": judged, "samples": shown}


def sample_path(workspace: Workspace, number: int, step: int, place: int) -> Path:
    """Where a sample of a run lies. Raises `NotFoundError`."""
    with Record(workspace.state) as record:
        run = _find(record, number)
    path = _folder(workspace, run) / "samples" / f"step-{step:07d}-{place:02d}.png"
    if not path.is_file():
        raise NotFoundError(f"training run {number} has no sample {place} of step {step}")
    return path


def ask_run(workspace: Workspace, number: int, wish: Wish) -> StoredTraining:
    """Asks a run that goes on for samples now, or to end and deliver its best; it does so after its next step.

    One that was stopped can be asked to deliver: it does when it is resumed. Raises `NotFoundError`, and `UsageError`
    for a run that cannot do it.
    """
    with Record(workspace.state) as record:
        run = _find(record, number)
    if not is_going_on(workspace, run):
        again = f"sosie train {' '.join(run.start.characters)} --recipe {run.start.recipe} --resume"
        if wish == "sample":
            raise UsageError(f"training run {number} does not go on, so it draws nothing", again)
        if not _can_resume(workspace, run):
            raise UsageError(f"training run {number} has no state to deliver from", "sosie train --list")
    wish_for(_folder(workspace, run), wish)
    return run


def newest_run(workspace: Workspace, characters: tuple[str, ...], recipe: str = "") -> StoredTraining:
    """The newest run of these characters, by this recipe if one is named. Raises `NotFoundError`."""
    with Record(workspace.state) as record:
        for run in record.training.runs():
            if run.start.characters == characters and recipe in ("", run.start.recipe):
                return run
    raise NotFoundError(f"no run of {', '.join(characters)} is on record", "sosie train --list")


def is_going_on(workspace: Workspace, run: StoredTraining) -> bool:
    """Whether a process works on it now: it holds the run's lock, which ends with it."""
    if run.end.cause:
        return False
    try:
        with locked(workspace, f"training-{run.start.job[:16]}", "the run", 0.0):
            return False
    except StoreError:
        return True


def _line(workspace: Workspace, run: StoredTraining) -> dict[str, Any]:
    runs = is_going_on(workspace, run)
    return {**json_of(run), "runs": runs, "rests": not runs and _can_resume(workspace, run)}


def _can_resume(workspace: Workspace, run: StoredTraining) -> bool:
    return run.end.cause not in DELIVERED and (_folder(workspace, run) / "state.safetensors").is_file()


def _folder(workspace: Workspace, run: StoredTraining) -> Path:
    return workspace.state / "training" / run.start.job[:16]


def _find(record: Record, number: int) -> StoredTraining:
    for run in record.training.runs():
        if run.id == number:
            return run
    raise NotFoundError(f"there is no training run {number}", "sosie train --list")
