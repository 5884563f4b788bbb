"""Workspaces of earlier releases: what was made is found, judged and delivered as before, and work goes on."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from places import DESCRIPTION, EXAMPLES, ROOT

pytestmark = [pytest.mark.local, pytest.mark.once]

Sosie = Callable[..., Any]
ARCHIVES = sorted((ROOT / "tests" / "fixtures" / "workspaces").glob("*.tar.xz"))


JUDGED_ANEW = frozenset({"0.1.0"})
"""Releases whose scorers were of an earlier version: what they judged is judged once more, and not drawn."""


BEGUN_ANEW = frozenset({"0.1.0"})
"""Releases whose detector placed faces otherwise in the last digits: what a run learns from is not quite the same."""


TOLD_SINCE = frozenset({"looks"})
"""Keys of lines that no release had whose workspace is here."""


@dataclass(frozen=True)
class Old:
    """A workspace of a release, and what that was asked and answered, by name."""

    release: str
    root: Path
    answers: dict[str, Any]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Old:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # its renders are of a CPU
    monkeypatch.syspath_prepend(ROOT / "tests" / "fixtures")
    from make_workspace import restore

    root = tmp_path / "workspace"
    return Old(request.param.name.removesuffix(".tar.xz"), root, restore(request.param, root))


@pytest.fixture
def no_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked of the in-process engine is an error."""

    def refuse(_engine: object, plans: Any) -> Iterator[Any]:
        raise AssertionError(f"{len(plans)} plans were rendered that the store has")

    monkeypatch.setattr("sosie.engines.diffusers.DiffusersEngine.run", refuse)


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def told(value: Any, anew: bool) -> Any:
    """What was told, without what is told only since, and the figures that newer scorers may measure otherwise."""
    if isinstance(value, dict):
        known = {key: item for key, item in value.items() if key not in TOLD_SINCE}
        masked = anew and known.get("value") is not None
        return {key: "#" if masked and key == "value" else told(item, anew) for key, item in known.items()}
    if isinstance(value, list):
        return [told(item, anew) for item in value]
    if not anew:
        return value
    return re.sub(r"\d+\.\d+", "#", value) if isinstance(value, str) else "#" if isinstance(value, float) else value


def scored(sosie: Sosie, old: Old, recipe: str) -> list[dict[str, Any]]:
    options = ("--character", "mira", "--recipe", recipe, "--json", "--workspace", old.root)
    (line,) = lines(sosie("score", EXAMPLES / "01.jpg", *options).out)
    return line["scores"]["identity"]


def rows(old: Old, table: str) -> int:
    with closing(sqlite3.connect(old.root / ".sosie" / "catalogue.sqlite")) as catalogue:
        return catalogue.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.mark.parametrize("name", ["kept", "rejected"])
def test_the_store_answers_what_it_was_asked_before(sosie: Sosie, old: Old, no_renders: None, name: str) -> None:
    before = old.answers[name]
    renders, scorecards = rows(old, "renders"), rows(old, "scorecards")
    for _ in range(2):
        done = sosie(*before["command"], "--json", "--workspace", old.root)
        assert done.code == before["code"], done.err
        found = lines(done.out.replace(str(old.root), "<workspace>"))
        anew = old.release in JUDGED_ANEW
        assert told(found, anew) == told(before["lines"], anew)
        judged = scorecards + anew
        assert (rows(old, "renders"), rows(old, "scorecards")) == (renders, judged)


def test_the_delivery_is_on_record_and_its_manifest_is_valid(sosie: Sosie, old: Old) -> None:
    (line,) = old.answers["kept"]["lines"]
    image = line["image"].replace("<workspace>", str(old.root))
    (manifest,) = lines(sosie("verify", image, "--json", "--workspace", old.root).out)
    assert (manifest["state"], manifest["recipe"], manifest["plan_id"]) == ("valid", "own", line["plan"])
    with closing(sqlite3.connect(old.root / ".sosie" / "catalogue.sqlite")) as catalogue:
        assert catalogue.execute("SELECT DISTINCT plan FROM deliveries").fetchall() == [(line["plan"],)]


def test_the_character_and_the_recipes_are_read_without_a_finding(sosie: Sosie, old: Old) -> None:
    (character,) = lines(sosie("doctor", "character:mira", "--json", "--workspace", old.root).out)
    assert character["findings"] == []
    for name, steps in (("own", 8), ("bare", 4)):
        (shown,) = lines(sosie("recipe", "show", name, "--json", "--workspace", old.root).out)
        assert shown["stages"][0]["sampler"]["steps"] == steps
    checked = sosie("recipe", "check", "own", "bare", "--json", "--workspace", old.root)
    assert checked.code == 0
    assert {finding["severity"] for line in lines(checked.out) for finding in line["findings"]} <= {"info"}
    assert DESCRIPTION in old.answers["kept"]["lines"][0]["prompt"]


def test_the_calibration_still_sets_the_thresholds(sosie: Sosie, old: Old) -> None:
    (made,) = old.answers["calibrate"]["lines"]
    own = {(score["threshold_from"], score["n"]) for score in scored(sosie, old, "bare")}
    assert own == {(made["cohort"], made["n"])}
    assert made["cohort"] not in {score["threshold_from"] for score in scored(sosie, old, "own")}


def test_a_stopped_training_goes_on_where_it_was(sosie: Sosie, old: Old) -> None:
    command = (*old.answers["train"]["command"], "--json", "--workspace", old.root)
    (listed,) = lines(sosie("train", "--list", "--json", "--workspace", old.root).out)
    assert (listed["cause"], listed["step"], listed["steps"]) == ("interrupted", 1, 4)
    if old.release in BEGUN_ANEW:
        (line,) = lines(sosie(*command).out)
        assert (line["cause"], line["step"]) == ("finished", 4)
        assert line["job"] != listed["job"], "a run goes on only as itself"
        both = lines(sosie("train", "--list", "--json", "--workspace", old.root).out)
        assert listed in both, "nothing of the earlier run is lost"
        return
    assert sosie(*command).code == 2, "it was begun before, and --resume was not asked for"
    done = sosie(*command, "--resume")
    assert done.code == 0, done.err
    (line,) = lines(done.out)
    assert (line["id"], line["job"], line["cause"], line["step"]) == (listed["id"], listed["job"], "finished", 4)
    assert (line["started"], line["dataset"]) == (listed["started"], listed["dataset"])
    with closing(sqlite3.connect(old.root / ".sosie" / "catalogue.sqlite")) as catalogue:
        assert [step for (step,) in catalogue.execute("SELECT step FROM training_losses ORDER BY step")] == [1, 2, 3, 4]
    assert Path(line["path"]).is_file()
