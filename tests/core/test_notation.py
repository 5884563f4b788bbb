"""The notation of prompts: what weighs, what cuts, and how data stay what they are in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosie.core import Character, CharacterLora, LoraUse, Recipe, Request, Stage, plan
from sosie.core.notation import Span, complaint, has_weights, literal, parse, plain, with_literals
from sosie.core.plan import Draw
from sosie.dataset.dataset import TrainingImage


def spans(prompt: str) -> list[tuple[str, float]]:
    (section,) = parse(prompt)
    return [(span.text, round(span.weight, 6)) for span in section]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a woman", [("a woman", 1)]),
        ("a (red:1.2) coat", [("a ", 1), ("red", 1.2), (" coat", 1)]),
        ("a (red) coat", [("a ", 1), ("red", 1.1), (" coat", 1)]),
        ("a [red] coat", [("a ", 1), ("red", 0.909091), (" coat", 1)]),
        ("((red))", [("red", 1.21)]),
        ("([red])", [("red", 1)]),
        ("(a (red:1.5) coat:0.5)", [("a ", 0.5), ("red", 0.75), (" coat", 0.5)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(ratio 4:3:1.2)", [("ratio 4:3", 1.2)]),
        (r"a \(red\) coat \[1\]", [("a (red) coat [1]", 1)]),
        (r"a (red\:1.2)", [("a ", 1), ("red:1.2", 1.1)]),
        ("smiling :) (a", [("smiling :) (a", 1)]),
        ("a] b:1.2) c[", [("a] b:1.2) c[", 1)]),
        ("a back\\slash", [("a back\\slash", 1)]),
        ("(red)(coat)", [("red", 1.1), ("coat", 1.1)]),
        ("(red:1)coat", [("red", 1), ("coat", 1)]),
        ("BREAKFAST", [("BREAKFAST", 1)]),
        ("", []),
    ],
)
def test_a_prompt_is_read_as_spans_of_one_weight(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert spans(prompt) == expected


def test_break_parts_a_prompt_and_weights_reach_over_it() -> None:
    one, two = parse("(a BREAK b:1.5)")
    assert (one, two) == ((Span("a ", 1.5),), (Span(" b", 1.5),))


def test_a_weight_that_was_a_time_or_a_slip_is_said() -> None:
    assert "weighs 'at 10' 30; expected 0 to 4" in complaint("(at 10:30)")
    assert "weighs 'coat' -1" in complaint("a (coat:-1)")
    assert complaint(r"(at 10\:30), (coat:0), ((hat:2):2)") == ""


@given(st.text(st.sampled_from("ab ()[]:1.2BREAK,é"), max_size=30))
def test_data_are_read_as_they_are_written(text: str) -> None:
    sections = parse(literal(text))
    assert "".join(span.text for section in sections for span in section) == text
    assert all(span.weight == 1 for section in sections for span in section)
    assert plain(literal(text)) == text


def test_what_is_escaped_already_stays() -> None:
    assert literal(r"mira_\(oc\), (24)") == r"mira_\(oc\), \(24\)"
    assert literal("SPRING BREAK") == r"SPRING \BREAK"


@pytest.mark.parametrize(
    ("prompt", "words", "weighs"),
    [
        ("a (red:1.2) coat", "a red coat", True),
        ("a (red) [soft] coat", "a (red) [soft] coat", False),
        (r"a \(red\) coat", "a (red) coat", False),
        ("(a (red) coat:1.3)", "a (red) coat", True),
        ("smiling :) (a", "smiling :) (a", False),
    ],
)
def test_a_family_that_weighs_nothing_gets_the_words(prompt: str, words: str, weighs: bool) -> None:
    assert plain(prompt) == words
    assert has_weights(prompt) is weighs


@pytest.mark.parametrize("trigger", ["mira_(oc)", "[mira]", "mira (24:3)", "m\\ira", "m1ra:)", "the BREAK"])
@pytest.mark.parametrize("prompt", ["smiling", "portrait of {}, smiling", "({}:1.3), smiling"])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_trigger_stands_once_and_weighs_as_it_is_asked(trigger: str, prompt: str, escaped: bool) -> None:
    who = Character(
        "mira", "fictional", True, "a woman (24)", trigger, loras=(CharacterLora("a.safetensors", "sdxl", "a" * 64),)
    )
    recipe = Recipe(
        "r", (Stage("generate", "sdxl", "m", loras=(LoraUse("character"),)),), "{description}, {prompt}", 256, 256
    )
    asked = prompt.replace("{}", literal(trigger) if escaped else trigger)
    assets = {"m": "", "characters/mira/a.safetensors": ""}
    final = plan(recipe, who, Request("r", "mira", asked), Draw(), assets).prompt
    (section,) = parse(final)
    spans = {span.text: round(span.weight, 3) for span in section}
    text = "".join(spans)
    assert text.count(trigger) == 1
    assert "a woman (24)" in text
    holder = next(weight for words, weight in spans.items() if trigger in words)
    assert holder == (1.3 if "1.3" in prompt else 1)


def test_words_that_only_begin_like_data_are_left_alone() -> None:
    assert with_literals("mira_(oc)s and mira_(oc)", ["mira_(oc)"]) == r"mira_(oc)s and mira_\(oc\)"


def test_a_captions_brackets_are_learned_as_words() -> None:
    image = TrainingImage(Path("a.png"), "0" * 64, "a bar (open until 23:30), mira_(oc) smiling", "mira_(oc)")
    assert [span.weight for section in parse(image.text) for span in section] == [1.0]
    assert plain(image.text) == "a bar (open until 23:30), mira_(oc) smiling"
