"""Experiments on the page: put together, foretold, declared once, read, and decided on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from experiments import result
from studio_page import Studio

from sosie.core.schema import to_table
from sosie.files.whole import write_whole
from sosie.lab.draft import Axis, Draft, draft_text, fields_of
from sosie.lab.experiment import read_experiment
from sosie.workspace.experiments import save_design, save_result
from sosie.workspace.recipes import find_recipe, recipe_table
from sosie.workspace.workspace import open_workspace

CFG = "stages.generate.sampler.cfg"
ASKED: dict[str, Any] = {
    "name": "cfg", "character": "mira", "recipe": "mini", "question": "Which CFG?", "prompts": ["smiling", "neutral"],
    "seeds": 3, "axes": [{"field": CFG, "values": [3, 4.5]}], "margin": 0.2,
}  # fmt: skip


def found_in(studio: Studio, name: str = "cfg") -> str:
    """An experiment that was run elsewhere, with its report; its id."""
    workspace, found = open_workspace(studio.root), result(name)
    table = {"experiment": {"name": name, "question": found.question}, "arms": [arm.name for arm in found.arms]}
    save_design(workspace, found.id, table)
    save_result(workspace, found)
    folder = studio.root / "experiments" / found.id
    (folder / "images").mkdir(parents=True)
    write_whole(folder / "index.html", "<!doctype html><title>cfg</title>")
    write_whole(folder / "images/aa-160.webp", b"picture")
    return found.id


def test_a_dry_run_names_arms_cells_and_the_smallest_difference_and_writes_nothing(studio: Studio) -> None:
    fields = {one["field"]: one["value"] for one in studio.json("/api/recipes/mini/fields")}
    assert (fields[CFG], fields["width"]) == (3.5, 256)
    assert "stages.generate.kind" not in fields
    found = studio.json("/api/experiments/forecast", {**ASKED, "seeds": 40, "price": 2})
    assert (found["cells"], found["arms"], found["blocks"]) == (160, 2, 80)
    assert found["names"] == ["cfg=3", "cfg=4.5"]
    assert 0 < found["longer"] < found["smallest"]
    assert studio.json("/api/experiments/forecast", ASKED)["smallest"] is None
    assert not (studio.root / "experiments").exists()


def test_a_design_is_declared_once_as_a_file_that_the_command_reads(studio: Studio) -> None:
    assert studio.json("/api/experiments", ASKED) == {"name": "cfg"}
    written = read_experiment(studio.root / "experiments/cfg.toml")
    assert (written.seeds, written.prompts) == ((1, 2, 3), ("smiling", "neutral"))
    assert written.axes == {"stages": {"generate": {"sampler": {"cfg": [3.0, 4.5]}}}}
    assert written.design.margin == 0.2
    assert studio.post("/api/experiments", ASKED).status == 409
    (waiting,) = studio.json("/api/experiments")
    assert (waiting["id"], waiting["question"], waiting["state"]) == ("cfg", "Which CFG?", None)
    assert studio.json("/api/experiments/cfg")["prompts"] == ["smiling", "neutral"]
    assert studio.json("/api/jobs", {"kind": "experiment", "request": {"name": "cfg", "engine": "fake"}})["id"] == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"name": "../cfg"}, {"name": "a/b"}, {"character": "nobody"}, {"recipe": "../mini"}, {"axes": []},
        {"axes": [{"field": "stages.generate.sampler.cgf", "values": [1]}]}, {"axes": [{"field": CFG, "values": []}]},
        {"axes": [{"field": CFG, "values": ["high"]}]}, {"baseline": "cfg=9"}, {"margin": -1},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_in_words_and_nothing_is_written(studio: Studio, odd: dict[str, Any]) -> None:
    for path in ("/api/experiments/forecast", "/api/experiments"):
        answer = studio.post(path, {**ASKED, **odd})
        assert answer.status in (404, 409, 422), answer.text
        assert '"error"' in answer.text
    assert not (studio.root / "experiments").exists()


def test_texts_of_a_draft_come_back_as_they_were_from_the_file(workspace: Path) -> None:
    fields = {one.name: one for one in fields_of(recipe_table(find_recipe(open_workspace(workspace), "mini").path))}
    odd = 'says "no"\\ \x7f\n\u00e9\U0001f600 = [x]'
    axes = (Axis("stages.generate.sampler.name", ("euler", odd)), Axis(CFG, (1,)))
    table = tomllib.loads(draft_text(Draft("cfg", "mira", "mini", axes, odd, (odd,), 2), fields))
    assert (table["question"], table["prompts"], table["seeds"]) == (odd, [odd], [1, 2])
    assert table["axes"]["stages"]["generate"]["sampler"] == {"name": ["euler", odd], "cfg": [1.0]}


def test_an_experiment_is_read_with_its_cells_and_its_report_runs_no_script(studio: Studio) -> None:
    name = found_in(studio)
    (listed,) = studio.json("/api/experiments")
    assert (listed["id"], listed["state"], listed["winner"]["arm"]) == (name, "finished", "cfg=5")
    one = studio.json("/api/experiments/cfg")
    assert one["contrasts"] == to_table(result().contrasts)
    faceless = [cell for cell in one["cells"] if cell["score"] is None]
    assert [cell["error"] for cell in faceless] == [None, "the server went away"]
    page = studio.get(f"/api/experiments/{name}/report/en")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox")
    assert "script" not in policy
    assert "default-src 'none'" in policy
    assert studio.get(f"/api/experiments/{name}/report/images/aa-160.webp").body == b"picture"
    for path in ("report/fr", "report/images/..%2findex.html", "report/images/none.webp"):
        assert studio.get(f"/api/experiments/{name}/{path}").status == 404
    assert studio.get("/api/experiments/none").status == 404
    assert "script-src 'self'" in studio.get("/api/experiments").headers["content-security-policy"]


def test_a_decision_stands_on_what_was_shown_and_an_undecided_contrast_is_only_proposed(studio: Studio) -> None:
    name = found_in(studio)
    made = studio.json(
        "/api/decisions", {"title": "CFG 5", "because": name, "character": "mira", "why": "it is better"}
    )
    assert (made["status"], made["evidence"][0]["verdict"]) == ("accepted", "better")
    undecided = {"title": "CFG 6", "because": name, "contrast": "cfg=6 against cfg=4"}
    refused = studio.post("/api/decisions", undecided)
    assert (refused.status, "undecided" in refused.text) == (409, True)
    assert studio.post("/api/decisions", {"title": "on nothing"}).status == 409
    proposed = studio.json("/api/decisions", {**undecided, "proposed": True})
    assert studio.post(f"/api/decisions/{proposed['id']}/accept", {}).status == 409
    agreed = studio.json(f"/api/decisions/{proposed['id']}/accept", {"without_evidence": "it looks right"})
    assert agreed["status"] == "accepted"
    assert {one["title"]: one["status"] for one in studio.json("/api/decisions")} == {
        "CFG 5": "accepted",
        "CFG 6": "accepted",
    }
