"""What an experiment writes down in English, its French page says in French: every sentence of a course."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lab_bench import GreyEngine, course, experiment, trial

from sosie.core import Plan
from sosie.core.experiment_result import Design
from sosie.lab.assemble import Times, assemble
from sosie.lab.experiment import Arm
from sosie.reports.words import LANGUAGES, words_of
from sosie.store import Store

ROOMS = ("experiment", "comparison", "panel")
DESIGN = Design("cfg=4", "grey", margin=0.02, clip=0.1, sd=0.07, every=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / ".sosie") as opened:
        yield opened


def said(folder: Path, store: Store, engine: GreyEngine, steps: int = 10**6, **asked: object) -> list[str]:
    """Every sentence that the result of an experiment has, of a course that goes on for so many steps."""
    made = course(trial(folder, experiment(**{"design": DESIGN, "seeds": (1, 2), **asked}), engine, store, ["cfg=3"]))
    running = made.run()
    for _, _ in zip(range(steps), running, strict=False):
        pass
    running.close()
    result = assemble(made, Times("", ""))
    contrasts = [*result.contrasts, *([result.winner.fresh] if result.winner and result.winner.fresh else [])]
    return [*result.deviations, *(one.note for one in contrasts if one.note), *(one.name for one in contrasts)]


def test_every_sentence_of_a_result_is_said_in_french(tmp_path: Path, store: Store) -> None:
    def effect(plan: Plan) -> float:
        return -1.0 if plan.requested.seed == 1 and plan.stages[0].sampler.cfg == 5 else 0.7

    engine = GreyEngine(effect)
    engine.fails = lambda plan: plan.requested.seed == 2 and plan.stages[0].sampler.cfg == 5
    sentences = said(tmp_path, store, engine) + said(tmp_path, store, GreyEngine(effect), 3, seeds=(5, 6))
    lucky = GreyEngine(lambda plan: 0.95 if plan.stages[0].sampler.cfg == 5 else 0.2, 0.001)
    few = replace(DESIGN, stopping="none", confirm=1)
    sentences += said(tmp_path, store, lucky, seeds=(11, 12, 13, 14), design=few)
    words = words_of("experiment", "fr")
    assert any("fewer than 8" in one for one in sentences)
    assert len(sentences) > 10
    for sentence in sentences:
        assert words.said(sentence) != sentence, sentence
    assert words.said("2 images could not be drawn; each counts 0.2.").endswith("chacune compte 0,2.")


def test_a_training_run_alone_is_said_in_french(tmp_path: Path, store: Store) -> None:
    arms = tuple(
        Arm(name, treatment=name[:-1], change={"stages": {"generate": {"sampler": {"cfg": cfg}}}})
        for name, cfg in (("a1", 3.0), ("b1", 6.0))
    )
    design = replace(DESIGN, baseline="a1", unit="training run")
    sentences = said(tmp_path, store, GreyEngine(lambda plan: 0.7), axes={}, arms=arms, design=design)
    assert any("no repetition of it" in one for one in sentences)
    assert all(words_of("experiment", "fr").said(one) != one for one in sentences)


@pytest.mark.parametrize("room", ROOMS)
def test_both_languages_of_a_page_have_the_same_texts_and_fields(room: str) -> None:
    english, french = (words_of(room, language).texts for language in LANGUAGES)
    assert list(english) == list(french)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", french[key])), key
        assert not key.startswith("said_") or text != french[key]


def test_what_is_not_known_stays_as_it_was_said() -> None:
    assert words_of("experiment", "fr").said("a sentence of another version") == "a sentence of another version"
    assert words_of("experiment", "en").said("cfg=5 against cfg=4") == "cfg=5 against cfg=4"
