"""Results of experiments in a workspace: written whole, read back equal, found by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from experiments import result

from sosie.core.errors import BadFileError, NotFoundError
from sosie.core.experiment_result import ExperimentResult
from sosie.workspace.experiments import (
    experiment_folder,
    find_experiment,
    list_experiments,
    load_design,
    load_result,
    load_results,
    save_design,
    save_result,
)
from sosie.workspace.workspace import open_workspace


def test_a_result_is_read_back_equal_and_with_the_same_digest(tmp_path: Path) -> None:
    workspace, written = open_workspace(tmp_path), result()
    save_design(workspace, written.id, {"name": "cfg"})
    path = save_result(workspace, written)
    assert load_result(workspace, written.id) == written
    assert (
        json.loads(path.read_text())["digest"] == written.digest == ExperimentResult.from_json(written.to_json()).digest
    )
    assert replace(written, floor=-2.0).digest != written.digest


def test_a_name_means_the_newest_of_its_experiments_and_an_unknown_one_names_the_nearest(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    for name in ("cfg-aaaaaaaa", "cfg-bbbbbbbb"):
        save_design(workspace, name, {"name": name})
    assert list_experiments(workspace) == ("cfg-aaaaaaaa", "cfg-bbbbbbbb")
    assert find_experiment(workspace, "cfg") == "cfg-bbbbbbbb"
    assert find_experiment(workspace, "cfg-aaaaaaaa") == "cfg-aaaaaaaa"
    with pytest.raises(NotFoundError, match="did you mean 'cfg-aaaaaaaa'"):
        find_experiment(workspace, "cfg-aaaaaab")
    save_design(workspace, "cfg-aaaaaaaa", {"name": "another"})
    assert load_design(workspace, "cfg-aaaaaaaa") == {"name": "cfg-aaaaaaaa"}


def test_an_experiment_without_a_stop_has_no_result_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    workspace, written = open_workspace(tmp_path), result()
    save_design(workspace, written.id, {})
    assert load_result(workspace, written.id) is None
    assert load_results(workspace) == ()
    (experiment_folder(workspace, written.id) / "result.json").write_text("[1")
    with pytest.raises(BadFileError, match="damaged"):
        load_result(workspace, written.id)
