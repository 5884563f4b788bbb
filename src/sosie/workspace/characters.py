"""The folder of a character: read strictly, and written whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Character, CharacterLora, Reference
from sosie.core.character import Likeness
from sosie.core.errors import ConfigError, UsageError
from sosie.files.digest import asset_digest
from sosie.files.images import image_digest, true_suffix
from sosie.files.picture_kinds import pictures_in
from sosie.files.toml import load_toml
from sosie.workspace.workspace import Workspace


@dataclass(frozen=True)
class LoraEntry:
    """`[[loras]]` of `character.toml`: see `core.CharacterLora`; the digest is that of the file."""

    file: str
    family: str
    weight: float = 1.0
    trigger: str = ""
    trained_on: str = ""
    model: str = ""


@dataclass(frozen=True)
class CharacterFile:
    """`character.toml`; the references are the images in `references/`."""

    name: str
    likeness: Likeness
    adult: bool
    description: str = ""
    trigger: str = ""
    marks: tuple[str, ...] = ()
    recipe: str = ""
    loras: tuple[LoraEntry, ...] = ()


def load_character(workspace: Workspace, name: str) -> Character:
    """Reads `characters/NAME`; strict, and never without consent, adulthood and references."""
    folder = workspace.character_folder(name)
    file = load_toml(CharacterFile, folder / "character.toml")
    if file.name != name:
        raise ConfigError(f"{folder / 'character.toml'}: name = '{file.name}', expected '{name}' as its folder")
    require_adult(file.adult, name)
    images = pictures_in(folder / "references")
    if not images:
        raise ConfigError(f"character '{name}' has no images in {folder / 'references'}", f"sosie new {name} IMAGES...")
    references = tuple(Reference(f"references/{path.name}", image_digest(path)) for path in images)
    loras = tuple(_lora(folder, entry) for entry in file.loras)
    return Character(
        name, file.likeness, file.adult, file.description, file.trigger, file.marks, file.recipe, references, loras
    )


def _lora(folder: Path, entry: LoraEntry) -> CharacterLora:
    path = folder / entry.file
    if folder.resolve() not in path.resolve().parents:
        raise ConfigError(f"{folder / 'character.toml'}: LoRA '{entry.file}' lies outside the character's folder")
    if not path.is_file():
        raise ConfigError(
            f"{folder / 'character.toml'}: LoRA {path} does not exist", f"sosie lora add {folder.name} FILE"
        )
    return CharacterLora(
        entry.file, entry.family, asset_digest(path), entry.weight, entry.trigger, entry.trained_on, entry.model
    )


def require_adult(adult: bool, name: str) -> None:
    """Sosie draws adults only."""
    if not adult:
        raise UsageError(
            f"character '{name}' is not declared an adult; Sosie draws adults only", "sosie new --adult ..."
        )


def write_character(details: CharacterFile, images: Sequence[Path], target: Path) -> None:
    """Builds the folder beside `target` and moves it in place; its calibration, dataset and LoRAs are kept.

    `images` become the references. Raises `OSError`.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "references").mkdir(parents=True)
        for index, image in enumerate(images):
            shutil.copyfile(image, part / "references" / f"{index:02d}{true_suffix(image)}")
        (part / "character.toml").write_text(_toml(details), encoding="utf-8")
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        if target.exists():
            for kept in ("calibration", "dataset", "loras"):
                if (target / kept).exists():
                    shutil.copytree(target / kept, part / kept)
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _toml(details: CharacterFile) -> str:
    lines = [
        f"name = {json.dumps(details.name)}",
        f"likeness = {json.dumps(details.likeness)}  # fictional or consented",
        f"adult = {'true' if details.adult else 'false'}",
        f"description = {text(details.description)}",
        f"trigger = {text(details.trigger)}",
        f"marks = [{', '.join(text(mark) for mark in details.marks)}]",
    ]
    if details.recipe:
        lines.append(f"recipe = {text(details.recipe)}")
    return "\n".join(lines) + "\n" + "".join(lora_toml(entry) for entry in details.loras)


def lora_toml(entry: LoraEntry) -> str:
    """The entry as a `[[loras]]` table, to be put at the end of `character.toml`."""
    lines = ["", "[[loras]]", f"file = {text(entry.file)}", f"family = {text(entry.family)}"]
    lines += [f"weight = {entry.weight!r}", f"trigger = {text(entry.trigger)}"]
    lines += [f"{key} = {text(value)}" for key in ("trained_on", "model") if (value := getattr(entry, key))]
    return "\n".join(lines) + "\n"


def text(value: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's, except for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
