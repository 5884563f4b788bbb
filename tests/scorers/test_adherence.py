from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from sosie.core.errors import BadModelError, NotFoundError
from sosie.files.images import read_image
from sosie.scorers.adherence import asked_for, score_adherence
from sosie.scorers.attributes import AttributeClassifier
from sosie.scorers.copy_paste import copy_paste_index
from sosie.scorers.sample import Sample
from sosie.workspace.library import installed_models
from sosie.workspace.workspace import open_workspace

pytestmark = pytest.mark.once

sosie_mini = pytest.importorskip("sosie_mini")
EXAMPLES = ROOT / "examples"
CAPTION_KEYS = {"hair colour": "hair_color", "shirt colour": "shirt"}


@pytest.fixture(scope="module")
def classifier() -> AttributeClassifier:
    assert sosie_mini.MODEL.attributes is not None
    return AttributeClassifier(sosie_mini.MODEL.attributes)


def described() -> list[tuple[Path, dict[str, str]]]:
    """The renders that the repository ships, and what is in them."""
    captions = sorted(EXAMPLES.glob("*/captions.jsonl"))
    return [
        (path.parent / said["file"], said)
        for path in captions
        for said in map(json.loads, path.read_text().splitlines())
    ]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))


# What a prompt asks for.


def test_a_prompt_asks_for_what_it_names(classifier: AttributeClassifier) -> None:
    prompt = (
        "portrait of an old man, light skin, short spiky white hair, dark brown eyes, short beard, angry, "
        "dramatic side light, brick wall background, checked red shirt, turned slightly left"
    )
    assert asked_for(prompt, classifier.attributes) == {
        "expression": "angry",
        "light": "dramatic side light",
        "background": "brick wall",
        "hair colour": "white",
        "beard": "short beard",
        "shirt colour": "red",
        "pose": "turned slightly left",
    }


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("auburn braided hair", {"hair colour": "auburn"}),
        ("long curly red hair and a blue shirt", {"hair colour": "red", "shirt colour": "blue"}),
        ("wearing a teal striped top", {"shirt colour": "teal"}),
        ("blue eyes, light skin, green grass", {}),
        ("a blue bird in very long hair", {}),
        ("(Smiling:1.2), GOLDEN HOUR", {"expression": "smiling", "light": "golden hour"}),
        ("not smiling", {}),
        ("no beard", {"beard": "none"}),
        ("turned left", {"pose": "turned left"}),
        ("plain grey background", {"background": "plain grey"}),
        ("with closed eyes", {"expression": "eyes closed"}),
        ("office workers smiled", {"background": "office"}),
        ("backlighting, neonatal, sadly", {}),
        ("", {}),
    ],
)
def test_phrases_count_as_whole_words_and_colours_by_what_they_colour(
    classifier: AttributeClassifier, prompt: str, wanted: dict[str, str]
) -> None:
    assert asked_for(prompt, classifier.attributes) == wanted


def test_every_value_can_be_asked_for_by_each_of_its_phrases(classifier: AttributeClassifier) -> None:
    for attribute in classifier.attributes:
        for value in attribute.values:
            for phrase in value.phrases:
                prompt = f"{phrase} {attribute.near[0]}" if attribute.near else phrase
                assert asked_for(prompt, classifier.attributes)[attribute.name] == value.name


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ,():.0123456789äß\n", max_size=200))
def test_any_prompt_can_be_read(classifier: AttributeClassifier, prompt: str) -> None:
    known = {attribute.name: {value.name for value in attribute.values} for attribute in classifier.attributes}
    assert all(value in known[name] for name, value in asked_for(prompt, classifier.attributes).items())


# What the classifier sees.


def test_the_shipped_classifier_knows_what_the_shipped_renders_show(classifier: AttributeClassifier) -> None:
    right: dict[str, list[bool]] = {attribute.name: [] for attribute in classifier.attributes}
    for path, said in described():
        for name, seen in classifier.see(pixels(path)).items():
            right[name].append(
                max(seen, key=lambda value, seen=seen: seen[value]) == (said[CAPTION_KEYS.get(name, name)] or "none")
            )
    shares = {name: sum(answers) / len(answers) for name, answers in right.items()}
    assert len(right["pose"]) >= 12
    assert min(shares[name] for name in ("light", "background", "hair colour", "beard")) >= 0.9
    assert shares["pose"] >= 0.8
    assert shares["shirt colour"] >= 0.6  # patterned shirts have two colours, a caption names one
    assert shares["expression"] >= 0.5  # of ten; laughing and grinning look alike on this person


def test_probabilities_of_an_attribute_sum_to_one(classifier: AttributeClassifier) -> None:
    seen = classifier.see(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))
    assert [sum(values.values()) for values in seen.values()] == pytest.approx([1.0] * len(classifier.attributes))


def test_the_same_picture_larger_shows_the_same(classifier: AttributeClassifier) -> None:
    path, _ = described()[0]
    image = read_image(path)
    once, twice = (classifier.see(np.asarray(image.resize((side, side)))) for side in (256, 1024))
    assert [max(seen, key=lambda value, seen=seen: seen[value]) for seen in once.values()] == [
        max(seen, key=lambda value, seen=seen: seen[value]) for seen in twice.values()
    ]


def test_a_picture_that_is_not_square_is_looked_at_in_its_middle(classifier: AttributeClassifier) -> None:
    square = pixels(described()[0][0])
    wide = np.pad(square, ((0, 0), (60, 60), (0, 0)), constant_values=255)
    assert classifier.see(wide) == classifier.see(square)


# The measure.


def test_adherence_is_the_share_of_named_attributes_that_are_seen(classifier: AttributeClassifier) -> None:
    path, said = described()[0]
    sample = Sample(pixels(path))
    true = f"{said['hair_color']} hair, {said['light']}, {said['background']} background"
    assert score_adherence(sample, true, classifier).value == 1.0
    wrong = score_adherence(sample, f"{true}, green hair".replace(f"{said['hair_color']} hair, ", ""), classifier)
    assert wrong.value == pytest.approx(2 / 3)
    assert [(answer.attribute, answer.asked) for answer in wrong.answers if not answer.is_met] == [
        ("hair colour", "green")
    ]
    assert wrong.answers[-1].seen == said["hair_color"]
    assert all(0 <= answer.probability <= 1 for answer in wrong.answers)


def test_without_a_classifier_there_is_no_value_and_a_reason() -> None:
    adherence = score_adherence(Sample(np.zeros((8, 8, 3), np.uint8)), "smiling", None)
    assert adherence.value is None
    assert "no attribute classifier" in adherence.reason


def test_a_prompt_that_names_nothing_known_has_no_value_and_a_reason(classifier: AttributeClassifier) -> None:
    adherence = score_adherence(Sample(np.zeros((8, 8, 3), np.uint8)), "riding a horse", classifier)
    assert adherence.value is None
    assert "expression" in adherence.reason


# Where classifiers come from.


def test_mini_brings_its_classifier_and_the_upscaler_none(tmp_path: Path) -> None:
    models = installed_models(open_workspace(tmp_path))
    assert models["mini"].attributes is not None
    assert models["mini"].attributes.stat().st_size <= 1_200_000
    assert models["mini-upscaler"].attributes is None


def test_a_model_of_the_users_brings_none(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "own.safetensors").write_bytes(b"x")
    assert installed_models(open_workspace(tmp_path))["own"].attributes is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.onnx"):
        AttributeClassifier(tmp_path / "nowhere.onnx")


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(BadModelError, match="onnxruntime cannot load it"):
        AttributeClassifier(tmp_path / "page.onnx")


def test_a_model_without_vocabulary_is_refused() -> None:
    with pytest.raises(BadModelError, match=r"no metadata 'sosie\.attributes'"):
        AttributeClassifier(Path(sosie_mini.__file__).parent / "weights" / "id_encoder.onnx")


def edited(path: Path, old: bytes, new: bytes) -> Path:
    """The shipped file with bytes of its metadata exchanged for as many others."""
    assert sosie_mini.MODEL.attributes is not None
    content = sosie_mini.MODEL.attributes.read_bytes()
    assert old in content
    assert len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'{"side":256', b'{"side":"xx', "is damaged"),
        (b'"near":["hair"]', b'"naer":["hair"]', "is damaged"),
        (b'{"side":256', b'{"side":000', "is damaged"),
        (b'{"side":256', b'{"side":  0', "a side of 0 px"),
        (b'{"side":256', b'{"side":128', "fails on an image of 128 px"),
        (b',{"name":"beach","phrases":["beach","beach background"]}', b" " * 56, "expected the 64 of its vocabulary"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path, old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(BadModelError, match=why):
        AttributeClassifier(edited(tmp_path / "edited.onnx", old, new))


# The copy-paste index.


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_copy_of_the_reference_has_index_one_and_of_the_target_minus_one() -> None:
    reference, target = unit(np.random.default_rng(1).normal(size=(2, 1, 16)).reshape(2, 16)).reshape(2, 1, 16)
    index = copy_paste_index(np.concatenate([reference, target, reference + target]), reference, target)
    assert index == pytest.approx([1.0, -1.0, 0.0], abs=1e-6)


def test_the_index_is_the_published_formula() -> None:
    angles = np.radians([0.0, 40.0, 30.0])
    reference, target, image = (np.array([[np.cos(a), np.sin(a)]]) for a in angles)
    assert copy_paste_index(image, reference, target) == pytest.approx([(10 - 30) / 40])


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_the_index_lies_between_minus_one_and_one_and_ignores_length(seed: int, r: int, t: int) -> None:
    draw = np.random.default_rng(seed)
    images, references, targets = (draw.normal(size=(n, 8)) for n in (5, r, t))
    index = copy_paste_index(images, references, targets)
    assert (np.abs(index) <= 1 + 1e-9).all()
    assert copy_paste_index(images * 3, references * 2, targets) == pytest.approx(index)
    assert copy_paste_index(images, targets, references) == pytest.approx(-index)


def test_the_index_needs_targets_that_are_not_the_references() -> None:
    rows = np.eye(4)[:2]
    with pytest.raises(ValueError, match="got 2 and 0"):
        copy_paste_index(rows, rows, rows[:0])
    with pytest.raises(ValueError, match="same pictures"):
        copy_paste_index(rows, rows[:1], rows[:1])
