"""The folder of a character: read strictly, and written whole."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.core import Character, CharacterLora, Reference
from sosie.core.character import Likeness
from sosie.core.errors import ConfigError, SosieError, UsageError
from sosie.core.schema import from_table
from sosie.files.digest import asset_digest
from sosie.files.images import image_digest, true_suffix
from sosie.files.picture_kinds import pictures_in
from sosie.files.toml import load_toml, parse_toml, quoted
from sosie.files.whole import copy_whole, make_folder, whole_folder, write_whole
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import NEW, REPLACEMENT, finish_replacement, is_being_replaced, writing


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


def calibration_file(workspace: Workspace, name: str, recipe: str) -> Path:
    """Where a character's own cohort for a recipe lies."""
    return workspace.character_folder(name) / "calibration" / f"{recipe}.npz"


def load_character(workspace: Workspace, name: str) -> Character:
    """Reads `characters/NAME`; strict, and never without consent, adulthood and references."""
    folder = workspace.character_folder(name)
    name = folder.name
    while True:
        if is_being_replaced(folder):
            with writing(workspace, name):
                pass  # this puts the new files into their places
        before = _version(folder)
        try:
            character = _read(folder)
        except (OSError, SosieError):
            if _version(folder) == before and not is_being_replaced(folder):
                raise
            continue
        if _version(folder) == before and not is_being_replaced(folder):
            return character


def _version(folder: Path) -> tuple[int, int]:
    """What changes whenever `character.toml` is written; it is, after the references, when a character is replaced."""
    status = (folder / "character.toml").stat()
    return status.st_ino, status.st_ctime_ns


def _read(folder: Path) -> Character:
    name = folder.name
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
    """Makes the folder of a character, or replaces its `character.toml` and its references; all else in it stays.

    `images` become the references. Whoever calls it holds the character's lock. At every moment the character is
    the old one or the new one, whole. Raises `OSError`.
    """
    replaces = target.exists()
    make_folder(target.parent)
    with whole_folder(target / REPLACEMENT if replaces else target) as part:
        make_folder(part / "references")
        for index, image in enumerate(images):
            copy_whole(image, part / "references" / f"{index:02d}{true_suffix(image)}")
        write_whole(part / "character.toml", character_toml(details))
        if replaces:
            write_whole(part / "references" / NEW, b"")
    finish_replacement(target)


def character_toml(details: CharacterFile) -> str:
    """The text of a new `character.toml`."""
    lines = [
        f"name = {json.dumps(details.name)}",
        f"likeness = {json.dumps(details.likeness)}  # fictional or consented",
        f"adult = {'true' if details.adult else 'false'}",
        f"description = {quoted(details.description)}",
        f"trigger = {quoted(details.trigger)}",
        f"marks = [{', '.join(quoted(mark) for mark in details.marks)}]",
    ]
    if details.recipe:
        lines.append(f"recipe = {quoted(details.recipe)}")
    return "\n".join(lines) + "\n" + "".join(_lora_toml(entry) for entry in details.loras)


def with_lora(toml: str, entry: LoraEntry, where: Path) -> str:
    """The text of `character.toml` with one more LoRA. Raises `ConfigError` if that is none."""
    return _checked(toml.rstrip("\n") + "\n" + _lora_toml(entry), where)


def without_lora(toml: str, file: str, where: Path) -> str:
    """The text of `character.toml` without the entry of a LoRA; the rest stays as it is."""
    head, *tables = re.split(r"(?m)^(?=\[\[loras\]\])", toml)
    return _checked(head + "".join(table for table in tables if f'"{file}"' not in table), where)


def with_words(toml: str, description: str, marks: Sequence[str], where: Path) -> str:
    """The text of `character.toml` with this description and these marks; the rest stays as it is written.

    Where one of the two was written over several lines, all of it is written anew. Raises `ConfigError`.
    """
    old = from_table(CharacterFile, parse_toml(toml, str(where)), str(where))
    new = replace(old, description=description, marks=tuple(marks))
    head, *tables = re.split(r"(?m)^(?=\[\[loras\]\])", toml)
    for key, value in (("description", quoted(description)), ("marks", f"[{', '.join(map(quoted, marks))}]")):
        line = f"{key} = {value}"
        head, found = re.subn(rf"(?m)^{key}[ \t]*=.*$", lambda _, line=line: line, head, count=1)
        head += "" if found else f"{line}\n"
    changed = head + "".join(tables)
    try:
        kept = from_table(CharacterFile, parse_toml(changed, str(where)), str(where)) == new
    except ConfigError:
        kept = False
    return changed if kept else character_toml(new)


def _checked(toml: str, where: Path) -> str:
    from_table(CharacterFile, parse_toml(toml, str(where)), str(where))
    return toml


def _lora_toml(entry: LoraEntry) -> str:
    lines = ["", "[[loras]]", f"file = {quoted(entry.file)}", f"family = {quoted(entry.family)}"]
    lines += [f"weight = {entry.weight!r}", f"trigger = {quoted(entry.trigger)}"]
    lines += [f"{key} = {quoted(value)}" for key in ("trained_on", "model") if (value := getattr(entry, key))]
    return "\n".join(lines) + "\n"
