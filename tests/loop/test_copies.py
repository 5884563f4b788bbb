"""The copy-paste index of generated images: by the references that guided against those that did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from seen_once import look_once

from sosie.core import Character, Guide, Score
from sosie.core.character import CharacterLora
from sosie.core.plan import needed_stages
from sosie.core.recipe import LoraUse
from sosie.faces.encoders import ArcFaceOnnx
from sosie.faces.references import guiding_places
from sosie.faces.views import viewing_places
from sosie.files.images import read_image
from sosie.loop.copies import copies_of
from sosie.scorers.sample import Sample
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.characters import load_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.local


@pytest.fixture
def session(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    look_once(monkeypatch)
    with Session(open_workspace(workspace)) as opened:
        yield opened


def bill_of(session: Session, mira: Character, references: int = 4, **changed: object) -> Bill:
    recipe = load_recipe(session.workspace, "mini")
    stage = recipe.stages[0]
    guides = tuple(replace(guide, references=references) for guide in stage.guides)
    stage = replace(stage, **{"guides": guides, "loras": (), **changed})
    bare = replace(recipe, stages=(stage,), repair=())
    return resolve(session.workspace, needed_stages(bare, mira), mira)


def index(session: Session, mira: Character, bill: Bill, picture: str, untaught: Character | None = None) -> Score:
    """The index of a reference, as if it had been drawn."""
    found = copies_of(session, mira, untaught or mira, bill)
    assert found is not None
    pixels = np.asarray(read_image(session.reference_paths(mira)[picture]))
    (score,) = found.score(Sample(pixels, session.detector.detect(pixels), ""))
    return score


def test_a_picture_that_guided_is_told_from_one_that_did_not(session: Session) -> None:
    mira = load_character(session.workspace, "mira")
    paths, bill = session.reference_paths(mira), bill_of(session, mira)
    names, values = list(paths), {name: index(session, mira, bill, name).value or 0.0 for name in paths}
    encoder = bill_encoder(bill)
    guided = {
        names[place] for place in guiding_places([*map(read_image, paths.values())], session.detector, 4, encoder)
    }
    assert len(guided) == 4
    assert min(values[name] for name in guided) > max(values[name] for name in set(names) - guided)
    assert min(values[name] for name in guided) > 0.1


def test_the_references_that_a_model_looks_at_itself_are_those_that_it_is_shown(session: Session) -> None:
    mira = load_character(session.workspace, "mira")
    paths = session.reference_paths(mira)
    bill = bill_of(session, mira, guides=(Guide("references", references=3),))
    shown = viewing_places([*map(read_image, paths.values())], session.detector, 3)
    names = list(paths)
    values = [index(session, mira, bill, names[place]).value or 0.0 for place in shown]
    assert len(values) == 3
    assert min(values) > 0.1
    (rest, *_) = (name for place, name in enumerate(names) if place not in shown)
    assert (index(session, mira, bill, rest).value or 0.0) < min(values)


def bill_encoder(bill: Bill) -> ArcFaceOnnx:
    (guide,) = bill.stages[0].guides
    return ArcFaceOnnx(guide.encoder, bill[guide.encoder].located)


def test_where_nothing_guides_there_is_no_index(session: Session) -> None:
    mira = load_character(session.workspace, "mira")
    assert copies_of(session, mira, mira, bill_of(session, mira, guides=())) is None


def test_where_every_reference_guides_there_is_no_value_and_why(session: Session) -> None:
    mira = load_character(session.workspace, "mira")
    one = replace(mira, references=mira.references[:1])
    score = index(session, one, bill_of(session, one), one.references[0].sha256)
    assert (score.value, score.reason) == (
        None,
        "there is no reference that guided nothing with a face to compare with",
    )


def test_what_a_lora_of_the_character_has_seen_counts_as_guiding(session: Session) -> None:
    mira = load_character(session.workspace, "mira")
    taught = replace(mira, loras=(CharacterLora("own.safetensors", "sdxl", sha256="0" * 64),))
    name = taught.lora_name(taught.loras[0])
    bill = replace(bill_of(session, mira, guides=()), stages=())
    stage = replace(bill_of(session, mira, guides=()).stages[0], loras=(LoraUse(name),))
    bill = replace(bill, stages=(stage,))
    untaught = replace(taught, references=taught.references[8:])
    learned = index(session, taught, bill, taught.references[0].sha256, untaught)
    other = index(session, taught, bill, taught.references[9].sha256, untaught)
    assert learned.value is not None
    assert other.value is not None
    assert learned.value > other.value


def test_for_a_server_that_has_the_encoder_the_most_frontal_references_count(session: Session) -> None:
    mira = load_character(session.workspace, "mira")
    bill = bill_of(session, mira)
    far = replace(bill, remote=True)
    paths = session.reference_paths(mira)
    turned = {name: abs(session.detector.detect(np.asarray(read_image(path)))[0].yaw) for name, path in paths.items()}
    first, last = min(turned, key=turned.__getitem__), max(turned, key=turned.__getitem__)
    frontal, turned_away = (index(session, mira, far, name).value for name in (first, last))
    assert frontal is not None
    assert turned_away is not None
    assert frontal > turned_away


def test_where_a_guides_encoder_cannot_be_read_there_is_no_value_and_why(session: Session, tmp_path: Path) -> None:
    mira = load_character(session.workspace, "mira")
    bill = bill_of(session, mira)
    (guide,) = bill.stages[0].guides
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    broken = replace(bill[guide.encoder], path=tmp_path / "bad.onnx")
    score = index(
        session, mira, replace(bill, entries={**bill.entries, guide.encoder: broken}), mira.references[0].sha256
    )
    assert score.value is None
    assert "bad.onnx" in score.reason
