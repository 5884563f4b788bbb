"""Decisions: what they stand on, when they are refused, and what makes them doubt themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from catalogues import ask
from experiments import result
from json_lines import lines

from sosie.api.knowledge.decisions import Choice, accept, decide, findings_of, history, review
from sosie.core import Asset
from sosie.core.errors import NotFoundError, StoreError, UsageError
from sosie.core.experiment_result import ExperimentResult
from sosie.core.finding import RuleError
from sosie.faces.weights import SFACE
from sosie.knowledge.book import Book
from sosie.knowledge.decision import Decision
from sosie.knowledge.evidence import evidence_of
from sosie.workspace.experiments import save_design, save_result
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace

Sosie = Callable[..., Any]

RECIPE = """name = "own"
prompt = "{prompt}"
width = 256
height = 256

[[stages]]
kind = "generate"
family = "sdxl"
model = "portrait"

[stages.sampler]
cfg = 4.0
"""
CONTRAST = "cfg=5 against cfg=4"


@pytest.fixture
def session(workspace: Path) -> Session:
    (workspace / "recipes").mkdir()
    (workspace / "recipes" / "own.toml").write_text(RECIPE)
    (workspace / "models").mkdir()
    (workspace / "models" / "portrait.safetensors").write_bytes(b"weights of monday")
    keep(open_workspace(workspace), shown())
    with Session(open_workspace(workspace)) as opened:
        yield opened


def shown(title: str = "cfg", **change: Any) -> ExperimentResult:
    """An experiment with the recipe `own`, whose winner's contrast is changed."""
    made = result(title)
    (first, *others) = made.contrasts
    models = (Asset("portrait", hashlib.sha256(b"weights of monday").hexdigest()),)
    contrasts = (replace(first, **change), *others)
    judges = (Asset("sface", SFACE.sha256),)
    return replace(made, recipe="own", models=models, judges=judges, contrasts=contrasts)


def keep(workspace: Workspace, made: ExperimentResult) -> None:
    save_design(workspace, made.id, {})
    save_result(workspace, made)


def choice(**others: Any) -> Choice:
    stands_on = {"recipe": "own", "settings": ("stages.generate.sampler.cfg",), "because": "cfg"}
    return Choice("CFG 4", "mira", **{**stands_on, **others})


def doubts(session: Session) -> list[tuple[str, str, str, str]]:
    (one, *_) = review(session)
    return [(doubt.kind, doubt.name, doubt.was, doubt.now) for doubt in one.noun.doubts]


def test_a_decision_without_evidence_is_refused_unless_it_says_why_or_is_proposed(session: Session) -> None:
    with pytest.raises(RuleError, match="none was given") as caught:
        decide(session, choice(because=""))
    assert caught.value.code == "SOS-V001"
    assert review(session) == ()
    assert decide(session, choice(because="", without_evidence="it was by eye")).noun.status == "accepted"
    assert decide(session, choice(because="", proposed=True)).noun.status == "proposed"


def test_evidence_that_shows_nothing_or_chose_its_own_winner_is_refused(session: Session) -> None:
    keep(session.workspace, replace(shown("early"), winner=None))
    for name, contrast, says in (
        ("cfg", "cfg=6 against cfg=4", "left 'cfg=6 against cfg=4' undecided"),
        ("early", CONTRAST, "fresh seeds"),
    ):
        with pytest.raises(RuleError, match=says) as caught:
            decide(session, choice(because=name, contrast=contrast))
        assert caught.value.code == "SOS-V002"
    with pytest.raises(UsageError, match=f"no contrast 'cfg=5 against'; did you mean '{CONTRAST}'"):
        decide(session, choice(contrast="cfg=5 against"))
    with pytest.raises(UsageError, match="2 contrasts"):
        decide(session, choice(because="early"))
    with pytest.raises(NotFoundError, match="did you mean 'cfg-0123abcd'"):
        decide(session, choice(because="cfg-0123abce"))


def test_a_winner_on_two_axes_confirms_what_it_is_as_a_whole_and_no_axis_by_itself() -> None:
    made = result("both")
    winner, (first, other) = made.winner, made.contrasts
    assert winner is not None
    assert winner.fresh is not None
    levels = {"cfg=4": {"cfg": "4", "steps": "20"}, "cfg=5": {"cfg": "5", "steps": "8"}}
    arms = tuple(replace(arm, levels=levels.get(arm.name, {"cfg": "6", "steps": "20"})) for arm in made.arms)
    axis = replace(first, name="cfg=5 against 4", arms=("cfg=5", "cfg=6"))
    by_axes = replace(made, arms=arms, contrasts=(axis, other))
    whole = evidence_of(by_axes)
    assert (whole.contrast, whole.confirmed, whole.estimate) == (winner.fresh.name, True, winner.fresh.estimate)
    assert not evidence_of(by_axes, axis.name).confirmed
    alone = tuple(replace(arm, levels={**arm.levels, "steps": "20"}) for arm in arms)
    assert evidence_of(replace(by_axes, arms=alone), axis.name).confirmed


def test_nothing_is_doubted_while_nothing_has_changed(session: Session) -> None:
    made = decide(session, choice())
    assert {(one.kind, one.name) for one in made.noun.premises} == {
        ("model", "portrait"),
        ("setting", "own:stages.generate.sampler.cfg"),
        ("calibration", "own"),
        ("judge", "sface"),
        ("result", "cfg-0123abcd"),
    }
    assert (made.noun.evidence[0].contrast, made.noun.evidence[0].digest) == (CONTRAST, shown().digest)
    assert review(session) == (made,)


def test_a_replaced_file_a_new_default_and_a_new_calibration_each_raise_a_doubt_that_stays(
    session: Session, workspace: Path
) -> None:
    decide(session, choice())
    file, recipe = workspace / "models" / "portrait.safetensors", workspace / "recipes" / "own.toml"
    before = file.read_bytes()
    file.write_bytes(b"weights of tuesday")
    ((kind, name, was, now),) = doubts(session)
    assert (kind, name, len(was), len(now)) == ("model", "portrait", 64, 64)
    file.write_bytes(before)
    recipe.write_text(RECIPE.replace("cfg = 4.0", "cfg = 5.5"))
    assert doubts(session)[1:] == [("setting", "own:stages.generate.sampler.cfg", "4.0", "5.5")]
    cohort = workspace / "characters" / "mira" / "calibration" / "own.npz"
    cohort.parent.mkdir()
    cohort.write_bytes(b"a cohort")
    assert [(kind, was) for kind, _, was, _ in doubts(session)] == [
        ("model", was),
        ("setting", "4.0"),
        ("calibration", ""),
    ]
    (one,) = review(session)
    assert (one.noun.status, one.entry.version) == ("doubted", 4)
    assert review(session) == (one,), "a doubt is written down once"


def test_other_weights_of_a_judge_raise_a_doubt(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(session, choice())
    assert doubts(session) == []
    monkeypatch.setattr("sosie.knowledge.present.PINNED", {"sface": replace(SFACE, sha256="e" * 64)})
    assert doubts(session) == [("judge", "sface", SFACE.sha256, "e" * 64)]
    (kept,) = review(session)
    assert findings_of(kept)[0].message.endswith(
        f"weights of judge 'sface' is eeeeeeeeeeee, it was {SFACE.sha256[:12]}"
    )


def test_a_file_that_is_gone_is_a_doubt_and_no_error(session: Session, workspace: Path) -> None:
    decide(session, choice())
    (workspace / "models" / "portrait.safetensors").unlink()
    (workspace / "recipes" / "own.toml").unlink()
    assert {(kind, now) for kind, _, _, now in doubts(session)} == {("model", ""), ("setting", "")}


@pytest.mark.parametrize(
    ("change", "is_doubted"),
    [
        ({"low": -0.03, "high": 0.01}, True),
        ({"low": 0.17, "high": 0.29}, True),
        ({"low": 0.14, "high": 0.29}, False),
        ({"low": None, "high": None}, False),
        ({"low": -0.03, "high": 0.01, "name": "cfg=5 against cfg=3"}, False),
    ],
)
def test_a_later_experiment_that_excludes_the_interval_raises_a_doubt(
    session: Session, change: dict[str, Any], is_doubted: bool
) -> None:
    decide(session, choice())
    keep(session.workspace, replace(shown("again", **change), finished="2026-12-01T10:00:00+00:00"))
    keep(session.workspace, replace(shown("before", low=-2.0, high=-1.0), finished="2026-01-01T10:00:00+00:00"))
    keep(session.workspace, replace(shown("other", low=-2.0, high=-1.0), character="nora"))
    (found,) = review(session)
    assert (found.noun.status == "doubted") is is_doubted
    assert [doubt.name for doubt in found.noun.doubts] == (["again-0123abcd"] if is_doubted else [])


def test_a_report_that_is_written_again_raises_no_doubt(session: Session) -> None:
    decide(session, choice())
    later = replace(shown(), finished="2027-01-01T00:00:00+00:00", environments=(), version="9.9.9")
    assert later != shown()
    keep(session.workspace, later)
    assert not doubts(session)


def test_an_experiment_that_went_on_since_raises_a_doubt(session: Session) -> None:
    decide(session, choice())
    keep(session.workspace, shown(n=8))
    assert [(kind, name) for kind, name, _, _ in doubts(session)] == [("result", "cfg-0123abcd")]


def test_a_doubted_decision_is_accepted_again_on_what_is_so_now_and_its_doubts_stay_in_its_history(
    session: Session, workspace: Path
) -> None:
    decide(session, choice())
    (workspace / "models" / "portrait.safetensors").write_bytes(b"weights of tuesday")
    review(session)
    with pytest.raises(RuleError, match="none was given"):
        accept(session, "D1")
    again = accept(session, "d1", without_evidence="it is the same file, renamed")
    assert (again.noun.status, again.noun.doubts, again.entry.version) == ("accepted", (), 3)
    assert review(session) == (again,)
    assert [one.noun.status for one in history(session, "D1")] == ["accepted", "doubted", "accepted"]
    with pytest.raises(UsageError, match="accepted already"):
        accept(session, "D1", "cfg")


def test_one_that_is_superseded_says_by_which_and_doubts_no_more(session: Session, workspace: Path) -> None:
    decide(session, choice())
    decide(session, choice(supersedes="d1"))
    (workspace / "models" / "portrait.safetensors").write_bytes(b"weights of tuesday")
    found = {one.id: one.noun for one in review(session)}
    assert (found["D1"].status, found["D1"].superseded_by, found["D1"].doubts) == ("superseded", "D2", ())
    assert (found["D2"].status, found["D2"].supersedes) == ("doubted", "D1")


def test_who_brings_up_to_date_what_has_changed_meanwhile_is_told(session: Session) -> None:
    made = decide(session, choice())
    with Book(session.store.folder) as book:
        with book.together():
            book.revise(made, replace(made.noun, why="first"))
        with pytest.raises(StoreError, match="has changed meanwhile"), book.together():
            book.revise(made, replace(made.noun, why="second"))
        assert [one.noun.why for one in book.history(Decision, "D1")] == ["", "first"]


def test_the_commands_say_what_is_doubted_and_exit_1(sosie: Sosie, workspace: Path, session: Session) -> None:
    call = ("decide", "new", "CFG 4", "--recipe", "own", "--setting", "stages.generate.sampler.cfg")
    refused = sosie(*call, "--workspace", workspace)
    assert (refused.code, "--without-evidence" in refused.err) == (2, True)
    made = sosie(*call, "--because", "cfg", "--json", "--workspace", workspace)
    assert lines(made.out)[0]["evidence"][0]["contrast"] == CONTRAST
    assert sosie("decide", "list", "--workspace", workspace).code == 0
    (workspace / "recipes" / "own.toml").write_text(RECIPE.replace("cfg = 4.0", "cfg = 5.5"))
    listed = sosie("decide", "list", "--workspace", workspace)
    assert listed.code == 1
    assert "SOS-V003: D1 'CFG 4': setting 'own:stages.generate.sampler.cfg' is 5.5, it was 4.0" in listed.err
    assert listed.out.startswith("D1\tdoubted\t")


def test_what_is_on_record_is_neither_changed_nor_deleted(session: Session) -> None:
    decide(session, choice())
    database = session.store.folder / "catalogue.sqlite"
    for sql in ("DELETE FROM entries", "UPDATE entries SET json = '{}'"):
        with pytest.raises(Exception, match="entries are never"):
            ask(database, sql)
    assert ask(database, "SELECT count(*) FROM entries") == [(1,)]
