"""The recipe `klein` on weights of a few megabytes, by the command line: trained, and asked for a training set."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_flux2
from places import ROOT
from seen_once import look_once

from sosie.families import families
from sosie.lora import read_lora
from sosie.store.record import Record

pytestmark = [pytest.mark.local, pytest.mark.once]

Sosie = Callable[..., Any]


@pytest.fixture
def ready(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace with the shipped recipe, its model exchanged for a tiny one, its pictures and steps for fewer."""
    look_once(monkeypatch)
    monkeypatch.setattr("sosie.loop.sample_judge.score_defects", lambda _sample: [])
    tiny_flux2.make(workspace / "made")
    (workspace / "models").mkdir(exist_ok=True)
    (workspace / "made" / "folder").rename(workspace / "models" / "klein-tiny")
    text = (ROOT / "recipes" / "klein.toml").read_text()
    gone = ("files = ", "for_sale = ", "text_encoder = ", "vae = ", 'precision = "bf16"', "base_storage = ")
    lines = [line for line in text.splitlines() if not line.startswith(gone)]
    fewer = {"flux-2-klein-4b": "klein-tiny", 'name = "klein"': 'name = "klein-tiny"', "1024": "64", "= 512": "= 64",
             "steps = 2000": "steps = 2", "warmup = 100": "warmup = 1", "every = 250": "every = 2",
             "every = 500": "every = 2", "rank = 32": "rank = 2", "steps = 4 ": "steps = 1 "}  # fmt: skip
    text = "\n".join(lines)
    for old, new in fewer.items():
        assert old in text, old
        text = text.replace(old, new)
    (workspace / "recipes").mkdir(exist_ok=True)
    (workspace / "recipes" / "klein-tiny.toml").write_text(text)
    return workspace


def test_the_recipe_trains_a_lora_that_the_character_then_has(sosie: Sosie, ready: Path) -> None:
    done = sosie("train", "mira", "--recipe", "klein-tiny", "--workspace", ready)
    assert done.code == 0, done.err
    assert "SOS-U007" in done.err
    lora = read_lora(Path(done.out.strip()), families())
    assert (lora.family, lora.strangers, lora.scales) == ("flux2", (), (16.0,))
    (own,) = tomllib.loads((ready / "characters" / "mira" / "character.toml").read_text())["loras"]
    assert (own["family"], own["model"]) == ("flux2", "klein-tiny")
    assert list((ready / "outputs" / "mira").glob("training-*/index.html"))


def test_a_training_set_is_asked_of_it_and_what_shows_nobody_is_left_out(sosie: Sosie, ready: Path) -> None:
    wanted = ("--recipe", "klein-tiny", "--bootstrap", 1, "--attempts", 1)
    done = sosie("dataset", "build", "mira", *wanted, "--workspace", ready)
    assert done.code == 1, done.err
    assert "the set stayed short: 0 of 1 images" in done.err
    with Record(ready / ".sosie") as record:
        drawn = record.renders(recipe="klein-tiny")
    assert len(drawn) == 2
    assert ", as in the reference images, close-up portrait, smiling, soft daylight, in a park" in drawn[0].plan.prompt
    assert {stage.family for one in drawn for stage in one.plan.stages} == {"flux2"}
