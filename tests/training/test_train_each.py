"""Several characters' LoRAs at once: a process a card, the worst end counts, and nobody is ended by another's error."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sosie.api.workers.training_each import Apart, NotTrained, Runs
from sosie.core import Character, Note, Recipe, Stage
from sosie.core.errors import EngineError
from sosie.engines.resident_protocol import error_table
from sosie.loop.training_job import TrainOrder
from sosie.machines.cards import Card

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]
RECIPE = Recipe("r", (Stage("generate", "sdxl", "m"),), "{prompt}", 64, 64)
CARDS = (Card(0, "0"), Card(1, "1"))


def orders(*names: str) -> list[TrainOrder]:
    return [TrainOrder((Character(name, "fictional", True),), RECIPE) for name in names]


def pretended(link: Any, device: str, root: Path, order: TrainOrder) -> None:
    """A run without a trainer; what it does is its character's name."""
    (name,) = order.names
    link.send(Note(f"{name} on {device}"))
    if name.startswith("slow"):
        (root / name).touch()
        asked = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        (root / f"{name}-ready").touch()
        asked.wait(60)
        link.send(Note(f"{name} has stopped after its step"))
    if name == "bad":
        link.send(error_table(EngineError("its loss went wrong", "mend it")))
        return
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    link.send(None)


def test_each_runs_once_on_a_card_of_its_own_and_an_error_ends_no_other(tmp_path: Path) -> None:
    names = ("ana", "bad", "killed", "zoe", "eva")
    told = list(Runs(tmp_path, CARDS, pretended).events(orders(*names)))
    notes = [run.event.text for run in told if isinstance(run, Apart) and isinstance(run.event, Note)]
    assert sorted(note.split()[0] for note in notes) == sorted(names)
    assert {note.split()[-1] for note in notes} == {"0", "1"}
    errors = {run.name: run.error for run in told if isinstance(run, NotTrained)}
    assert set(errors) == {"bad", "killed"}
    assert (errors["bad"].message, errors["bad"].hint) == ("its loss went wrong", "mend it")
    assert "'killed' on card" in errors["killed"].message
    assert "ended without a word (exit code -9)" in errors["killed"].message
    assert "--resume" in errors["killed"].hint


def test_an_interrupt_has_all_runs_stop_and_say_so_and_begins_no_other(tmp_path: Path) -> None:
    def interrupt() -> None:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("*-ready"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    told: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        told += [
            run
            for run in Runs(tmp_path, CARDS, pretended).events(orders("slow1", "slow2", "ana"))
            if not told.append(run)
        ]
    notes = [run.event.text for run in told]
    assert {note for note in notes if "stopped" in note} == {
        f"{name} has stopped after its step" for name in ("slow1", "slow2")
    }
    assert not any(note.startswith("ana") for note in notes)


def test_without_each_there_is_one_lora_and_so_one_card(sosie: Sosie, workspace: Path) -> None:
    refused = sosie("train", "mira", "--recipe", "mini", "--devices", "all", "--workspace", workspace)
    assert refused.code == 2
    assert "one LoRA is trained on one card" in refused.err
    assert "--each" in refused.err


def test_every_character_is_told_by_name_whatever_becomes_of_it(
    sosie: Sosie, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(session: object, order: TrainOrder) -> Any:
        yield Note(f"{order.names[0]} is trained")
        raise EngineError("no card", "look")

    monkeypatch.setattr("sosie.api.workers.training_each.train", pretend)
    (workspace / "characters" / "nora").mkdir()
    text = (workspace / "characters" / "mira" / "character.toml").read_text().replace('"mira"', '"nora"')
    (workspace / "characters" / "nora" / "character.toml").write_text(text)
    for reference in (workspace / "characters" / "mira" / "references").iterdir():
        target = workspace / "characters" / "nora" / "references" / reference.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(reference.read_bytes())
    done = sosie("train", "mira", "nora", "--each", "--recipe", "mini", "--workspace", workspace)
    assert done.code == 2
    for name in ("mira", "nora"):
        assert f"{name} is trained" in done.err
        assert f"{name}: no card" in done.err
