"""Several people in one picture: asked for together, drawn by a recipe that can, each judged by own references."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from sosie.core import Character, Plan
from sosie.core.errors import UsageError
from sosie.core.schema import digest, from_table, to_table
from sosie.engines.guide_checks import check_guides
from sosie.files.images import read_image
from sosie.loop.judge import Judge
from sosie.loop.judging import make_judge
from sosie.scorers.company import Company
from sosie.workspace.cast import load_cast
from sosie.workspace.characters import CharacterFile, write_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, open_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Mira and Otto, each with some of their renders; the others are left to be judged."""
    folder = tmp_path_factory.mktemp("company")
    for name, description in (("mira", "a young woman, auburn braided hair"), ("otto", "an old man, grey beard")):
        details = CharacterFile(name, "fictional", True, description)
        write_character(details, renders(name)[:6], folder / "characters" / name)
    return open_workspace(folder)


def renders(name: str) -> list[Path]:
    folder = ROOT / "examples" / "mira" if name == "mira" else ROOT / "tests" / "fixtures" / "pictures" / name
    return sorted(folder.glob("*.jpg"))


def beside(*paths: Path) -> Image.Image:
    """Pictures side by side."""
    return Image.fromarray(np.hstack([np.asarray(read_image(path).resize((512, 512))) for path in paths]))


@pytest.fixture(scope="module")
def judge(workspace: Workspace) -> Judge:
    with Session(workspace) as session:
        made, _ = make_judge(session, load_cast(workspace, "mira+otto"), load_recipe(workspace, "klein"), None)
    return replace(made, acceptance=replace(made.acceptance, defects=("no_face", "several_faces")))


def test_two_names_are_one_character_with_the_references_of_both_and_no_lora(workspace: Workspace) -> None:
    both = load_cast(workspace, "mira+otto")
    assert both.name == "mira+otto"
    assert both.description == "two people: a young woman, auburn braided hair; an old man, grey beard"
    assert [person.name for person in both.cast] == ["mira", "otto"]
    assert len(both.references) == 12
    assert both.loras == ()
    with Session(workspace) as session:
        paths = session.reference_paths(both)
    assert {path.parent.parent.name for path in paths.values()} == {"mira", "otto"}
    assert from_table(Character, json.loads(json.dumps(to_table(both))), "plan") == both


def test_one_persons_character_is_written_as_before(workspace: Workspace) -> None:
    mira = load_cast(workspace, "mira")
    assert "cast" not in to_table(mira)
    assert digest(mira) == digest(replace(mira, cast=()))


@pytest.mark.parametrize("names", ["mira+mira", "mira+otto+a+b+c"])
def test_people_are_each_named_once_and_four_at_most(workspace: Workspace, names: str) -> None:
    with pytest.raises(UsageError, match="expected 2 to 4, each once"):
        load_cast(workspace, names)


@pytest.mark.local
def test_a_picture_of_both_is_kept_whoever_stands_on_the_left(judge: Judge) -> None:
    mira, otto = renders("mira")[1], renders("otto")[1]  # references: whose face is whose is the question
    for order in ((mira, otto), (otto, mira)):
        card, verdict = judge(beside(*order))
        named = {score.name: score for score in card.of("identity")}
        assert {name.partition(":")[0] for name in named} == {"mira", "otto"}
        assert named["mira: sface"].value > 0.6
        assert named["otto: sface"].value > 0.6
        assert verdict.outcome == "keep", verdict.reasons


@pytest.mark.local
def test_a_picture_without_one_of_them_is_not_kept_and_says_who_is_missing(judge: Judge) -> None:
    card, verdict = judge(beside(renders("mira")[7]))
    assert verdict.outcome == "reject"
    assert "otto: no face was found" in verdict.reasons
    missing = next(score for score in card.of("identity") if score.name == "otto: sface")
    assert (missing.value, missing.passed) == (None, None)


@pytest.mark.local
def test_a_picture_of_the_same_person_twice_fails_by_the_other(judge: Judge) -> None:
    _, verdict = judge(beside(renders("mira")[7], renders("mira")[8]))
    assert verdict.outcome == "reject"
    assert all(reason.startswith("otto: ") for reason in verdict.reasons), verdict.reasons


@pytest.mark.local
def test_a_third_face_is_one_too_many(judge: Judge) -> None:
    _, verdict = judge(beside(renders("mira")[7], renders("otto")[7], renders("mira")[8]))
    assert any("number 3 is" in reason for reason in verdict.reasons), verdict.reasons


def test_the_judge_of_a_company_is_another_than_that_of_its_first(judge: Judge) -> None:
    alone = replace(judge, company=None)
    assert judge.id != alone.id
    assert judge.company is not None
    turned = Company(judge.company.persons[::-1])
    assert replace(judge, company=turned).id != judge.id


def planned(workspace: Workspace, recipe: str, references: int = 3) -> Plan:
    from recipe_graphs import planned as plan_of

    found = load_recipe(workspace, recipe)
    stages = tuple(
        replace(stage, guides=tuple(replace(guide, references=references) for guide in stage.guides))
        for stage in found.stages
    )
    return plan_of(replace(found, stages=stages), load_cast(workspace, "mira+otto"))


def test_a_recipe_that_cannot_tell_people_apart_says_so(workspace: Workspace) -> None:
    of = planned(workspace, "hybrid")
    said = [finding for stage in of.stages for finding in check_guides(stage, of, "in process")]
    assert [finding.code for finding in said] == ["SOS-E039", "SOS-E039"]
    assert "'mira+otto' are 2 people, and stage 'generate' draws one" in said[0].message
    klein = planned(workspace, "klein")
    assert check_guides(klein.stages[0], klein, "in process") == []
    one = planned(workspace, "klein", 1)
    (few,) = check_guides(one.stages[0], one, "in process")
    assert few.message == "guide 'references' shows 1 references of 2 people; expected one of each"


def test_the_references_that_are_shown_are_of_each_person_in_turn(workspace: Workspace) -> None:
    from sosie.api.faces import SessionFaces

    of = planned(workspace, "klein", 4)
    with Session(workspace) as session:
        shown = SessionFaces(session, {}).portraits(of.stages[0].guides[0], of)
        paths = session.reference_paths(of.character)
    owners = {np.asarray(read_image(path)).tobytes(): path.parent.parent.name for path in paths.values()}
    assert [owners[np.asarray(image).tobytes()] for image in shown] == ["mira", "mira", "otto", "otto"]
