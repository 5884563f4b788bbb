"""A character is never lost, never half, and written by one command at a time."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moments import KilledError, each_failure, each_kill

from sosie.core.errors import SosieError, StoreError
from sosie.files.lock import HeldError, held
from sosie.workspace import writing as module
from sosie.workspace.characters import CharacterFile, LoraEntry, load_character, write_character
from sosie.workspace.workspace import Workspace, open_workspace
from sosie.workspace.writing import writing

LORA = LoraEntry("loras/a.safetensors", "sdxl", 0.7, "m1ra")


def images(folder: Path, word: str, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{word}{index}.png" for index in range(count)]
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace with a character of three references, a LoRA, a set and a calibration."""
    root = tmp_path / "workspace"
    root.mkdir()
    workspace = open_workspace(root)
    folder = workspace.characters / "mira"
    write_character(CharacterFile("mira", "fictional", True, "old", loras=(LORA,)), images(tmp_path, "a", 3), folder)
    for name in ("loras/a.safetensors", "dataset/captions.jsonl", "calibration/x.npz"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(name)
    return workspace


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def replaced(workspace: Workspace, paths: list[Path]) -> None:
    with writing(workspace, "mira") as folder:
        write_character(CharacterFile("mira", "fictional", True, "new", loras=(LORA,)), paths, folder)


def test_replacing_a_character_is_killed_at_every_moment_and_it_is_the_old_or_the_new_one(
    place: Workspace, tmp_path: Path
) -> None:
    paths, kept = images(tmp_path, "b", 2), tmp_path / "kept"
    shutil.copytree(place.root, kept)
    seen: set[str] = set()
    replaced(place, paths)
    final = everything(place.characters)

    def prepare() -> None:
        shutil.rmtree(place.root)
        shutil.copytree(kept, place.root)

    for moment in each_kill(lambda: replaced(place, paths), prepare):
        folder = place.characters / "mira"
        assert tomllib.loads((folder / "character.toml").read_text())["name"] == "mira", moment
        names = {path.read_text() for path in (folder / "references").glob("*.png")}
        assert names in ({"a0.png", "a1.png", "a2.png"}, {"b0.png", "b1.png"}) or sys.platform != "linux", moment
        character = load_character(place, "mira")
        seen.add(character.description)
        assert len(character.references) == {"old": 3, "new": 2}[character.description], moment
        assert character.loras[0].trigger == "m1ra", moment
        with writing(place, "mira"):
            pass
        left = [path.name for path in place.characters.rglob(".*")]
        assert not left, moment
        replaced(place, paths)
        assert everything(place.characters) == final, moment
    assert seen == {"old", "new"}


def test_a_disk_that_fails_at_any_moment_of_a_replacement_loses_nothing(place: Workspace, tmp_path: Path) -> None:
    paths, kept = images(tmp_path, "b", 2), tmp_path / "kept"
    shutil.copytree(place.root, kept)
    replaced(place, paths)
    final = everything(place.characters)

    def prepare() -> None:
        shutil.rmtree(place.root)
        shutil.copytree(kept, place.root)

    for moment, raised in each_failure(lambda: replaced(place, paths), prepare):
        assert raised is None or isinstance(raised, OSError | SosieError), moment
        character = load_character(place, "mira")
        assert len(character.references) == {"old": 3, "new": 2}[character.description], moment
        replaced(place, paths)
        assert everything(place.characters) == final, moment


def test_where_folders_cannot_be_exchanged_the_character_is_read_whole_all_the_same(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sosie.files.whole._exchange", lambda *_: False)
    paths, kept = images(tmp_path, "b", 2), tmp_path / "kept"
    shutil.copytree(place.root, kept)

    def prepare() -> None:
        shutil.rmtree(place.root)
        shutil.copytree(kept, place.root)

    for moment in each_kill(lambda: replaced(place, paths), prepare):
        character = load_character(place, "mira")
        assert len(character.references) == {"old": 3, "new": 2}[character.description], moment
        with writing(place, "mira"):
            pass
        assert not [path.name for path in place.characters.rglob(".*")], moment


def test_a_new_character_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    root, paths = tmp_path / "workspace", images(tmp_path, "a", 2)

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()

    def make() -> None:
        with writing(open_workspace(root), "mira") as folder:
            write_character(CharacterFile("mira", "fictional", True), paths, folder)

    for moment in each_kill(make, prepare):
        if (root / "characters/mira").exists():
            assert len(load_character(open_workspace(root), "mira").references) == 2
        else:
            make()
        assert [path.name for path in (root / "characters").iterdir()] == ["mira"], moment


def test_a_second_command_waits_for_the_first_and_then_says_whom_it_waited_for(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    order: list[str] = []

    def other() -> None:
        try:
            with module.locked(place, "character-mira", "character 'mira'", 0.05):
                order.append("held")
        except StoreError as error:
            order.append(error.message)

    with writing(place, "mira"), writing(place, "mira"):  # a thread may hold it twice
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert order[0].startswith("character 'mira' is being written by another command")
    assert order[1:] == ["held"]


def hold(path: str, ready: Any) -> None:
    with held(Path(path)):
        ready.set()
        threading.Event().wait(60)


@pytest.mark.once
def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=hold, args=(str(tmp_path / "lock"), ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(HeldError), held(tmp_path / "lock"):
        pass
    process.kill()
    process.join()
    with held(tmp_path / "lock"):
        pass


def test_replacing_a_character_keeps_its_loras_and_all_else(
    sosie: Callable[..., Any], workspace: Path, references: list[Path]
) -> None:
    folder = workspace / "characters" / "mira"
    for name in ("loras/a.safetensors", "dataset/x.png", "calibration/x.npz", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    with (folder / "character.toml").open("a") as toml:
        toml.write(f'\n[[loras]]\nfile = "{LORA.file}"\nfamily = "sdxl"\nweight = 0.7\ntrigger = "m1ra"\n')
    words = ("--likeness", "fictional", "--adult", "--description", "other", "--replace", "--json")
    done = sosie("new", "mira", *references[:5], *words, "--workspace", workspace)
    assert done.code in (0, 1), done.err
    assert json.loads(done.out.splitlines()[-1])["references"] == 5
    character = load_character(open_workspace(workspace), "mira")
    assert (character.description, character.loras[0].weight) == ("other", 0.7)
    assert (folder / "notes.txt").read_text() == "notes.txt"
    assert (folder / "calibration/x.npz").exists()
    assert (folder / "dataset/x.png").exists()


def killed(*_: object) -> None:
    raise KilledError


def test_a_workspace_that_opens_is_put_right(
    sosie: Callable[..., Any], place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.characters / "mira"
    paths = images(tmp_path, "b", 2)
    with monkeypatch.context() as patch:
        patch.setattr("sosie.workspace.characters.finish_replacement", killed)
        with pytest.raises(KilledError):
            replaced(place, paths)
    assert (folder / ".replacement").exists()
    left = (".x.01234567.part", "models/.m.safetensors.01234567.part", ".sosie/training/abc/.state.01234567.part")
    for name in left:
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        (place.root / name).touch()
    (place.root / "models/half.safetensors.part").touch()  # a download that may go on
    assert sosie("recipe", "list", "--workspace", place.root).code == 0
    parts = [path.relative_to(place.root).as_posix() for path in place.root.rglob("*.part")]
    assert parts == ["models/half.safetensors.part"]
    assert not (folder / ".replacement").exists()
    assert load_character(place, "mira").description == "new"
