"""What every scorer keeps, and what one of another package may do: be measured, be required, and never break a run."""

from __future__ import annotations

import importlib
import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from sosie.core import Acceptance, Score, Verdict
from sosie.core.errors import ConfigError
from sosie.faces.detect import Face
from sosie.loop.judge import Judge, Origin
from sosie.scorers.adherence import PromptAdherence
from sosie.scorers.copy_paste import CopyPaste
from sosie.scorers.defects import DEFECTS, SCORERS
from sosie.scorers.identity import Gate, Identity
from sosie.scorers.plugged import Plugged, plugged_scorers
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Checks, Scale, Scorer, measure

NOWHERE = np.zeros((0, 4), np.float32)
TOY = """
from sosie.scorers.scorer import Checks, Scale
import math

SKIN = Scale("skin", 0.5, "share", 0.0, 1.0, kind="skin")

def scores(sample):
    return {scores}

SCORER = Checks({name!r}, {needs!r}, {scales}, scores)
"""
Install = Callable[..., tuple[Plugged, ...]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the distribution `sosie-skin` with the scorer `skin`, by its entry point."""
    site = tmp_path / "site"

    def make(
        scores: str = "[SKIN.score(0.75, 'plastic skin')]",
        name: str = "skin",
        needs: tuple[str, ...] = (),
        scales: str = "(SKIN,)",
        version: str = "1.0",
    ) -> tuple[Plugged, ...]:
        info = site / "sosie_skin-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (site / "sosie_skin.py").write_text(TOY.format(scores=scores, name=name, needs=needs, scales=scales))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sosie-skin\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[sosie.scorers]\nskin = sosie_skin:SCORER\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)
        sys.modules.pop("sosie_skin", None)
        importlib.invalidate_caches()
        plugged_scorers.cache_clear()
        return plugged_scorers()

    yield make
    monkeypatch.undo()
    sys.modules.pop("sosie_skin", None)
    plugged_scorers.cache_clear()


class Nobody:
    """A detector that finds no face."""

    def detect(self, pixels: Any) -> tuple[Face, ...]:
        return ()


def judge(plugged: tuple[Plugged, ...], *defects: str, **others: Any) -> Judge:
    return Judge(Nobody(), Gate((), {}), Acceptance(defects=("blank", *defects)), plugged=plugged, **others)  # type: ignore[arg-type]


def seen(judge: Judge) -> tuple[Score, Verdict]:
    """The toy's score of a picture, and the verdict."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    card, verdict = judge(Image.fromarray(noise), Origin(prompt="smiling"))
    (score,) = (score for score in card.scores if score.name == "skin")
    return score, verdict


@pytest.mark.parametrize(
    "scorer",
    [*SCORERS, PromptAdherence(None), CopyPaste(None, NOWHERE, NOWHERE), Identity(Gate((), {"dlib": "not installed"}))],  # type: ignore[arg-type]
    ids=lambda scorer: scorer.name,
)
def test_a_scorer_gives_a_score_for_each_of_its_scales_and_none_without_what_it_needs(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample(np.full((96, 96, 3), 90, np.uint8))
    assert [(s.kind, s.name) for s in measure(scorer, sample)] == [(s.kind, s.name) for s in scorer.scales]
    for name in scorer.needs:
        monkeypatch.setitem(sys.modules, name, None)
    for score in measure(scorer, sample) if scorer.needs else ():
        assert (score.value, score.passed) == (None, None)
        assert score.reason.endswith("not installed")


def test_a_scorer_of_another_package_is_measured_and_decides_nothing_unless_a_recipe_names_it(install: Install) -> None:
    plugged = install()
    score, verdict = seen(judge(plugged))
    assert (score.kind, score.value, score.passed, score.reason) == ("skin", 0.75, False, "plastic skin")
    assert "plastic skin" not in verdict.reasons
    required, verdict = seen(judge(plugged, "skin"))
    assert required == score
    assert "plastic skin" in verdict.reasons


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "it raises": ({"scores": "1 / 0"}, "scorer 'skin' of sosie-skin 1.0 failed: ZeroDivisionError"),
    "it needs a package": ({"needs": ("no_such_package",)}, "no_such_package is not installed"),
    "it imports a package": ({"scores": "__import__('no_such_package')"}, "no_such_package is not installed"),
    "it measures NaN": ({"scores": "[SKIN.score(math.nan)]"}, "its scorer measured nan"),
    "it gives no score": ({"scores": "[]"}, "its scorer gave no such score"),
    "it gives none and no reason": ({"scores": "[SKIN.unmeasured('')]"}, "its scorer gives no reason"),
    "it gives something else": ({"scores": "7"}, "TypeError"),
    "it cannot be imported": ({"scales": "(SKIN"}, "it cannot be loaded: SyntaxError"),
    "it has another name": ({"name": "skim"}, "it calls itself 'skim'"),
    "it measures nothing": ({"scales": "()"}, "it measures nothing"),
    "it judges identity": (
        {"scales": "(Scale('sface', 0.5, '', 0, 1, kind='identity'),)"},
        "it claims to judge identity",
    ),
    "it takes a name": (
        {"scales": "(Scale('noise', 0.5, '', 0, 1),)"},
        "it measures 'noise', which is measured already",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_or_missing_scorer_gives_no_value_and_why_and_never_a_pass(install: Install, case: str) -> None:
    how, why = BROKEN[case]
    score, verdict = seen(judge(install(**how), "skin"))
    assert (score.value, score.passed) == (None, None)
    assert why in score.reason
    assert verdict.outcome != "keep"
    assert score.reason in verdict.reasons


def test_what_passes_is_decided_by_the_scale_and_not_by_the_scorer(install: Install) -> None:
    claimed = "[Scale('skin', 0.9, '', 0, 1, kind='skin').score(0.75)]"
    assert seen(judge(install(scores=claimed)))[0].passed is False


def test_stored_verdicts_stay_valid_until_a_required_scorer_comes_or_changes(install: Install) -> None:
    bare = judge(()).id
    assert judge(install()).id == bare
    required = judge(install(), "skin").id
    assert required == judge(install(scores="[]"), "skin").id
    assert required != judge(install(version="1.1"), "skin").id
    assert required != judge(install(needs=("no_such_package",)), "skin").id
    assert judge(install(version="1.1")).id == bare


def test_a_scorer_that_is_required_leaves_all_defects_required(install: Install) -> None:
    plugged = install()
    only = replace(judge(plugged), acceptance=Acceptance(defects=("skin",)))
    assert only.required == {"skin", *DEFECTS}
    assert judge(plugged, "skin").required == {"skin", "blank"}


def test_a_name_that_nothing_measures_and_one_without_a_threshold_cannot_be_required(install: Install) -> None:
    with pytest.raises(ConfigError, match=r"'skim', which is not known; did you mean 'skin'\?"):
        judge(install(), "skim")
    with pytest.raises(ConfigError, match="'adherence', which has no threshold: it is only reported"):
        judge((), "adherence", reported=(PromptAdherence(None),))


def generated(sosie: Any, workspace: Path, recipe: str, defects: str) -> dict[str, Any]:
    """What one attempt of the fake engine was judged to be, by a recipe with these `defects`."""
    mini = (
        (ROOT / "recipes" / "mini.toml").read_text(encoding="utf-8").replace('name = "mini"', f'name = "{recipe}"', 1)
    )
    (workspace / "recipes").mkdir(exist_ok=True)
    rules = mini.replace("[acceptance]", f"[acceptance]\ndefects = {defects}")
    (workspace / "recipes" / f"{recipe}.toml").write_text(rules, encoding="utf-8")
    options = ("-n", 1, "--attempts", 1, "--seed", 8, "--engine", "fake", "--json", "--workspace", workspace)
    done = sosie("generate", "mira", "smiling, forest background", "--recipe", recipe, *options)
    (line,) = (json.loads(line) for line in done.out.splitlines())
    return line


@pytest.mark.once
def test_scores_beside_identity_and_defects_are_stored_and_lines_stay_as_they_are(
    install: Install, sosie: Any, workspace: Path
) -> None:
    install()
    loose, strict = (
        generated(sosie, workspace, *rules) for rules in (("loose", '["blank"]'), ("strict", '["blank", "skin"]'))
    )
    assert (loose["verdict"], strict["verdict"]) == ("keep", "retry")
    assert strict["reasons"] == ["plastic skin"]
    page = (workspace / "outputs" / "mira" / "index.html").read_text(encoding="utf-8")
    assert "<td>skin<td" in page
    assert "plastic skin" in page
    assert re.search(r"<td>adherence<td class=.n.>[0-9.]+<td>no threshold", page)
    assert list(loose["scores"]) == ["identity", "defects", "looks"]
    assert [score["name"] for score in strict["scores"]["defects"]] == ["blank"]
    with closing(sqlite3.connect(workspace / ".sosie" / "catalogue.sqlite")) as catalogue:
        sql = "SELECT name, value, threshold, passed FROM scores WHERE kind = ? ORDER BY scorecard"
        assert catalogue.execute(sql, ["skin"]).fetchall() == [("skin", 0.75, 0.5, 0)] * 2
        adherence = catalogue.execute(sql, ["prompt"]).fetchall()
        copies = catalogue.execute(sql, ["copies"]).fetchall()
    assert [(name, rest) for name, _, *rest in copies] == [("copy_paste", [None, None])] * 2
    assert all(-1 <= value <= 1 for _, value, *_ in copies)
    assert len(adherence) == 2
    for name, value, *rest in adherence:
        assert (name, rest) == ("adherence", [None, None])
        assert 0 <= value <= 1


def test_a_score_has_a_kind_that_is_a_word() -> None:
    for kind in ("", "Identity", "a b", "skin-tone"):
        with pytest.raises(ConfigError, match="expected a word"):
            Score(kind, "skin", 0.5, None, None)
    assert Checks("a", (), (Scale("a", None, "", 0, 1),), lambda _: []).scales[0].score(0.5).passed is None
