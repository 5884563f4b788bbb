"""Captions by a model of the user's: what is read, what is taken out, and what a set gets of them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from seen_once import look_once

from sosie.core.errors import BadModelError, NotFoundError
from sosie.dataset.appearance import without_face
from sosie.dataset.captioner import find_captioner
from sosie.dataset.captions import Seen, from_words

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*MARKS, *("woman", "red", "hair", "beard", "a", "with", "in", "forest", "green", "jacket", "smiling", "night")]


@pytest.fixture(autouse=True)
def _each_picture_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    look_once(monkeypatch)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BLIP in very small with random weights, its processor and a tokenizer of twenty words."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "blip"
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    text = {
        **layers,
        **marks,
        "max_position_embeddings": 128,
        "vocab_size": len(WORDS),
        "encoder_hidden_size": 16,
        "initializer_range": 1.0,
    }
    vision = {**layers, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    torch.manual_seed(3)
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{place}.png" for place in range(11)]
    for place, path in enumerate(made):
        noise = np.random.default_rng(place).integers(0, 255, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((40 + place, 50), Image.Resampling.NEAREST).save(path)
    return made


def rows(workspace: Path) -> list[dict[str, Any]]:
    table = workspace / "characters" / "mira" / "dataset" / "captions.jsonl"
    return [json.loads(line) for line in table.read_text().splitlines()]


# What belongs to the face


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("a woman with long red hair wearing a green jacket in a forest", "wearing a green jacket in a forest"),
        ("a young woman with red hair and a green jacket", "with a green jacket"),
        ("a man with a beard and brown eyes, smiling at the camera", "smiling at the camera"),
        ("a photo of a beautiful blonde woman in a red coat", "a photo of a person in a red coat"),
        ("arafed woman with red hair and a green dress", "with a green dress"),
        ("a brown-haired boy sitting on a bench", "sitting on a bench"),
        ("a smiling young lady with her hair in a ponytail, golden light", "smiling, golden light"),
        ("a woman with blue eyes in a park", "in a park"),
        ("a 25-year-old man in his late twenties standing near a red car", "standing near a red car"),
        (
            "She has short black hair. She wears a blue shirt, with a serious expression on her face.",
            "wears a blue shirt, with a serious expression",
        ),
        ("an old house behind a girl with curly hair, at night", "an old house behind a person, at night"),
        ("a black dog and a white car at night", "a black dog and a white car at night"),
        ("close-up portrait, blue shirt, forest background", "close-up portrait, blue shirt, forest background"),
        ("a woman's face with freckles", ""),
        ("woman", ""),
    ],
)
def test_looks_are_taken_out_and_clothes_place_light_and_expression_stay(said: str, left: str) -> None:
    assert without_face(said) == left
    assert without_face(left) == left


def test_where_only_looks_were_said_the_measured_words_stay() -> None:
    seen = Seen("close-up portrait, facing the camera", ("low light",))
    assert from_words(seen, "a woman with red hair") == seen
    assert from_words(seen, "a woman in a forest") == Seen("in a forest", ("low light",))


# The model


@pytest.mark.local
def test_each_picture_gets_its_words_in_order_whatever_the_batches_are(blip: Path, pictures: list[Path]) -> None:
    from sosie.dataset import captioner

    opened = captioner.Captioner(find_captioner(str(blip)), "cpu")
    said = list(opened.describe(pictures))
    assert len(said) == 11 > captioner.BATCH
    assert all(set(text.split()) <= set(WORDS) for text in said)
    assert not any("[" in text for text in said)
    one_by_one = [text for path in pictures for text in opened.describe([path])]
    assert said == one_by_one
    assert len(set(said)) > 1


@pytest.mark.local
def test_the_command_writes_unique_captions_that_begin_with_the_trigger_and_name_no_face(
    sosie: Sosie, workspace: Path, blip: Path
) -> None:
    assert sosie("dataset", "build", "mira", "--workspace", workspace).code == 0
    folder = workspace / "characters" / "mira" / "dataset"
    given = rows(workspace)[0]["file"]
    (folder / Path(given).with_suffix(".txt")).write_text("m1ra, my own words")
    done = sosie("dataset", "caption", "mira", "--model", blip, "--device", "cpu", "--workspace", workspace)
    assert done.code == 0, done.err
    found = rows(workspace)
    assert Counter(row["by"] for row in found) == {"model": 7, "template": 1}
    texts = [row["caption"] for row in found]
    assert len(set(texts)) == 8
    assert all(text.startswith("m1ra") for text in texts)
    written = [row["caption"] for row in found if row["by"] == "model"]
    assert not [text for text in written if set(text.replace(",", "").split()) & {"hair", "beard", "woman"}]
    assert done.out.count("\t") == 8


@pytest.mark.local
def test_a_model_with_pickled_weights_or_code_of_its_own_is_not_opened(blip: Path, tmp_path: Path) -> None:
    import torch

    from sosie.dataset.captioner import Captioner

    pickled = tmp_path / "pickled"
    shutil.copytree(blip, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, pickled / "pytorch_model.bin")
    with pytest.raises(BadModelError, match="weights in pickles are not read"):
        find_captioner(str(pickled))

    foreign, mark = tmp_path / "foreign", tmp_path / "it-ran"
    shutil.copytree(blip, foreign)
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n"
    for name in ("modeling_own.py", "configuration_own.py", "processing_own.py"):
        (foreign / name).write_text(code)
    table = json.loads((foreign / "config.json").read_text())
    own = {"AutoConfig": "configuration_own.Own", "AutoModelForImageTextToText": "modeling_own.Own"}
    (foreign / "config.json").write_text(json.dumps({**table, "model_type": "own", "auto_map": own}))
    (foreign / "processor_config.json").write_text(
        json.dumps({"processor_class": "Own", "auto_map": {"AutoProcessor": "processing_own.Own"}})
    )
    with pytest.raises(BadModelError, match="could not be loaded as a captioning model"):
        Captioner(find_captioner(str(foreign)), "cpu")
    assert not mark.exists()


@pytest.mark.local
def test_a_model_that_is_damaged_or_no_captioner_says_so_and_changes_no_caption(
    sosie: Sosie, workspace: Path, blip: Path, tmp_path: Path
) -> None:
    import sosie_mini

    sosie("dataset", "build", "mira", "--workspace", workspace)
    before = rows(workspace)
    damaged = tmp_path / "damaged"
    shutil.copytree(blip, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    encoder = Path(sosie_mini.folder()) / "text_encoder"
    for name, message in (
        (damaged, "could not be loaded"),
        (encoder, "could not be loaded"),
        (tmp_path, "has no config.json"),
        ("somebody/nothing", "neither a folder nor a model in the cache"),
    ):
        done = sosie("dataset", "caption", "mira", "--model", name, "--workspace", workspace)
        assert (done.code, done.out) == (2, ""), name
        assert message in done.err
        assert "Traceback" not in done.err
    assert rows(workspace) == before


def test_nothing_is_looked_for_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    with pytest.raises(NotFoundError, match="neither a folder nor a model in the cache"):
        find_captioner("somebody/nothing")
    with pytest.raises(NotFoundError):
        find_captioner("not a name at all/../..")


def test_a_model_and_a_program_at_once_are_refused(sosie: Sosie, workspace: Path) -> None:
    done = sosie("dataset", "caption", "mira", "--model", "x", "--caption-command", "y", "--workspace", workspace)
    assert done.code == 2
    assert "expected one of them" in done.err
