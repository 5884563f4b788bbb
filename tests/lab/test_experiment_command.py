"""`sosie experiment`: what is typed, what is said, and what is left behind."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sosie.api.experiments import foretell, read_order
from sosie.core.errors import SosieError
from sosie.core.finding import RuleError
from sosie.workspace.workspace import open_workspace

Sosie = Callable[..., Any]

TEXT = """
name = "cfg"
question = "Which CFG?"
character = "mira"
recipe = "mini"
prompts = ["smiling"]
seeds = [1, 2]
[axes]
stages.generate.sampler.cfg = [3.0, 4.0]
[design]
margin = 0.2
"""


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "cfg.toml"
    path.write_text(text)
    return path


def forecast_of(folder: Path, text: str = TEXT) -> dict[str, Any]:
    from sosie.core.schema import to_table

    return to_table(foretell(open_workspace(folder), read_order(written(folder, text)), 2.0))


# Dry run


def test_a_dry_run_says_what_it_takes_and_what_it_can_show(sosie: Sosie, workspace: Path) -> None:
    done = sosie("experiment", "run", written(workspace), "--dry-run", "--price", 2, "--workspace", workspace)
    assert done.code == 0, done.err
    rows = dict(line.split("\t") for line in done.out.splitlines())
    assert rows["cells"] == "4 (2 arms x 2 blocks), 1 comparisons"
    assert rows["images"] == "at most 20, of which 16 measure the winner again"
    assert rows["hours"].startswith("unknown: no image of recipe 'mini'")
    assert rows["money"] == "unknown"
    assert rows["can show"].startswith("no difference below 1.5: more seeds are needed")


def test_more_seeds_show_smaller_differences(tmp_path: Path) -> None:
    found = [
        forecast_of(tmp_path, TEXT.replace("[1, 2]", str(list(range(count)))))["smallest"] for count in (2, 32, 128)
    ]
    assert found[0] is None
    assert found[1] > found[2] > 0.1


def test_ten_thousand_cells_are_foretold(tmp_path: Path) -> None:
    values = [round(1 + step / 10, 1) for step in range(20)]
    text = TEXT.replace("[1, 2]", str(list(range(25)))).replace("[3.0, 4.0]", str(values))
    text = text.replace("[design]", f"stages.generate.sampler.steps = {list(range(1, 21))}\n[design]")
    workspace, order = open_workspace(tmp_path), read_order(written(tmp_path, text))
    found = foretell(workspace, order, 0.0)
    assert (found.cells, found.contrasts) == (10_000, 399)


# What is wrong is said before anything is drawn


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sampler.cfg", "sampler.cgf", "did you mean 'cfg'"),
        ("margin = 0.2", 'baseline = "cfg=33"', "no arm is called 'cfg=33'"),
        ("margin = 0.2", 'contrasts = ["cfg=5"]', "'cfg=5' is none of its questions"),
        ("margin = 0.2", "margn = 0.2", "did you mean 'margin'"),
        ("margin = 0.2", "margin = -1.0", "is not above 0"),
        ("margin = 0.2", "margin = 0.2\nclip = 0.1", "is not below design.clip"),
        ("margin = 0.2", "alpha = 2.0", "is not between 0 and 1"),
        ("margin = 0.2", 'unit = "training run"', "names no treatment"),
        ("[3.0, 4.0]", "[3.0]", "there is nothing to compare"),
    ],
)
def test_a_wrong_design_names_what_is_right(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SosieError, match=said):
        arms_are_read(tmp_path, TEXT.replace(old, new))


def arms_are_read(folder: Path, text: str) -> None:
    from sosie.lab.arms import arm_recipes

    order = read_order(written(folder, text))
    for arm in arm_recipes(open_workspace(folder), order.experiment, str(order.path)):
        assert arm.whole
    foretell(open_workspace(folder), order)


def test_an_experiment_that_is_not_there_names_the_nearest(sosie: Sosie, workspace: Path) -> None:
    done = sosie("experiment", "report", "cfg", "--workspace", workspace)
    assert (done.code, "no experiment 'cfg' was run here" in done.err) == (2, True)
    assert sosie("experiment", "list", "--workspace", workspace).out == ""


def test_cells_that_are_one_plan_are_an_error(sosie: Sosie, workspace: Path) -> None:
    own = '[[arms]]\nname = "mine"\n[arms.change]\nstages.generate.sampler.cfg = 3.0\n[design]'
    path = written(workspace, TEXT.replace("[design]", own))
    done = sosie("experiment", "run", path, "--engine", "fake", "--workspace", workspace)
    assert done.code == 2
    assert "arms 'cfg=3' and 'mine' resolve to the same plans" in done.err


@pytest.mark.parametrize(
    ("written_as", "instead", "says"),
    [
        ("sampler.cfg = [3.0, 4.0]", "sampler.cgf = [3.0, 4.0]", "did you mean 'cfg'"),
        ("sampler.cfg = [3.0, 4.0]", "guides.faceidd.scale = [0.3, 0.4]", "did you mean 'faceid'"),
    ],
)
def test_a_dry_run_names_the_nearest_of_a_field_that_there_is_not(
    tmp_path: Path, written_as: str, instead: str, says: str
) -> None:
    with pytest.raises(RuleError) as error:
        forecast_of(tmp_path, TEXT.replace(written_as, instead))
    assert (error.value.code, says in f"{error.value.message} {error.value.hint}") == ("SOS-Q001", True)


def test_a_dry_run_says_which_arms_are_the_same(tmp_path: Path) -> None:
    arms = """
[[arms]]
name = "as it is"
[[arms]]
name = "steps named"
[arms.change]
stages.generate.sampler.steps = 20
"""
    text = TEXT.replace("[axes]\nstages.generate.sampler.cfg = [3.0, 4.0]\n", "")
    with pytest.raises(RuleError, match="arms 'as it is' and 'steps named' resolve to the same plans"):
        forecast_of(tmp_path, text + arms)


def test_an_axis_with_a_value_twice_is_an_error(sosie: Sosie, workspace: Path) -> None:
    path = written(workspace, TEXT.replace("[3.0, 4.0]", "[3.0, 3.0]"))
    done = sosie("experiment", "run", path, "--engine", "fake", "--workspace", workspace)
    assert (done.code, "two arms are called 'cfg=3'" in done.err) == (2, True)


# From beginning to end


def test_a_new_design_is_one_that_runs_and_is_not_written_over(sosie: Sosie, workspace: Path) -> None:
    done = sosie("experiment", "new", "mine", "--character", "mira", "--workspace", workspace)
    path = Path(done.out.strip())
    assert path == workspace / "experiments" / "mine.toml"
    assert tomllib.loads(path.read_text())["design"]["baseline"] == "cfg=3.5"
    again = sosie("experiment", "run", path, "--dry-run", "--json", "--workspace", workspace)
    assert json.loads(again.out)["cells"] == 144
    assert sosie("experiment", "new", "mine", "--character", "mira", "--workspace", workspace).code == 2


@pytest.mark.once
def test_a_run_is_kept_resumed_reported_and_listed_and_a_changed_file_is_a_new_experiment(
    sosie: Sosie, workspace: Path
) -> None:
    path = written(workspace)
    end = ("--workspace", workspace)
    done = sosie("experiment", "run", path, "--engine", "fake", "--json", *end)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["kind"] for line in lines] == ["cell"] * 4 + ["experiment"]
    last = lines[-1]
    kept = json.loads(Path(last["file"]).read_text())
    assert (kept["id"], kept["digest"], kept["state"]) == (last["id"], last["digest"], "finished")
    assert {cell["plan"] for cell in kept["cells"]} == {line["plan"] for line in lines[:-1]}
    assert kept["judges"]
    assert kept["scale"].startswith("standard deviations of the cohort")

    again = sosie("experiment", "report", "cfg", *end)
    assert again.code == 0, again.err
    told_again = json.loads(Path(last["file"]).read_text())
    assert told_again["finished"] >= kept["finished"]
    assert told_again["digest"] == kept["digest"]
    (row,) = sosie("experiment", "list", *end).out.splitlines()
    assert row.split("\t")[:3] == [last["id"], "finished", "2 arms"]

    path.write_text(TEXT.replace('"Which CFG?"', '"Which CFG, again?"'))
    changed = sosie("experiment", "run", path, "--engine", "fake", "-v", *end)
    assert "SOS-Q006" in changed.err
    assert "a change in the experiment's file" in changed.err
    assert len(sosie("experiment", "list", *end).out.splitlines()) == 2
