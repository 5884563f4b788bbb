"""The experiments of a workspace, as they were written down: `.sosie/experiments/ID/`, a folder each.

`design.json` is the experiment's table as it was when it began, `result.json` what was found at the latest stop.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sosie.core.errors import BadFileError, NotFoundError, nearest
from sosie.core.experiment_result import ExperimentResult
from sosie.files.foreign import object_or_none
from sosie.files.regular import read_bytes
from sosie.files.whole import make_folder, write_json
from sosie.workspace.workspace import Workspace, check_name

MOST = 512_000_000
"""Bytes of a result; one of 100,000 images has 150 MB."""


def experiments_folder(workspace: Workspace) -> Path:
    """Where all of them lie."""
    return workspace.state / "experiments"


def experiment_folder(workspace: Workspace, experiment: str) -> Path:
    """Where one lies that has this id; it need not exist."""
    return experiments_folder(workspace) / check_name(experiment)


def list_experiments(workspace: Workspace) -> tuple[str, ...]:
    """The ids of all that were begun, by name."""
    return tuple(sorted(path.parent.name for path in experiments_folder(workspace).glob("*/design.json")))


def find_experiment(workspace: Workspace, name: str) -> str:
    """The id that `name` means: an id, or the newest of that name. Raises `NotFoundError`, which names the nearest."""
    known = list_experiments(workspace)
    if name in known:
        return name
    folder = experiments_folder(workspace)
    named = [one for one in known if one.rpartition("-")[0] == name]
    if named:
        return max(named, key=lambda one: (folder / one / "design.json").stat().st_mtime_ns)
    raise NotFoundError(f"no experiment '{name}' was run here{nearest(name, known)}", "sosie experiment list")


def save_design(workspace: Workspace, experiment: str, table: dict[str, Any]) -> None:
    """Writes down what an experiment is; once, for its id covers it."""
    path = experiment_folder(workspace, experiment) / "design.json"
    make_folder(path.parent)
    if not path.exists():
        write_json(path, table)


def load_design(workspace: Workspace, experiment: str) -> dict[str, Any]:
    """The table that `save_design` wrote. Raises `BadFileError` for a damaged one."""
    return _table(experiment_folder(workspace, experiment) / "design.json")


def save_result(workspace: Workspace, result: ExperimentResult) -> Path:
    """Writes the result in the place of an earlier one, whole or not at all; returns where."""
    path = experiment_folder(workspace, result.id) / "result.json"
    write_json(path, result.to_json())
    return path


def load_result(workspace: Workspace, experiment: str) -> ExperimentResult | None:
    """What was found at the latest stop; None if there was none. Raises `BadFileError` for a damaged one."""
    path = experiment_folder(workspace, experiment) / "result.json"
    return ExperimentResult.from_json(_table(path), str(path)) if path.exists() else None


def load_results(workspace: Workspace) -> tuple[ExperimentResult, ...]:
    """Every result that is there, oldest first."""
    found = (load_result(workspace, one) for one in list_experiments(workspace))
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.finished))


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(read_bytes(path, MOST, "the experiment"))
    except ValueError as error:
        raise BadFileError(f"{path} is damaged: {error}", "sosie experiment report NAME") from None
    found = object_or_none(table)
    if found is None:
        raise BadFileError(f"{path} is damaged: it holds no object", "sosie experiment report NAME")
    return found
