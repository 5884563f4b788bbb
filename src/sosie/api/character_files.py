"""Characters that travel: to a file and from one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.api.characters import NewCharacter, new_character
from sosie.core import Character
from sosie.core.errors import DeliveryError, NotFoundError, UsageError
from sosie.files.regular import is_there
from sosie.workspace.archive.members import Members, open_members
from sosie.workspace.archive.openchar import extract, is_char, read_char, write_char
from sosie.workspace.archive.portable import missing_loras, read_archive, unpack, with_digest, write_archive
from sosie.workspace.characters import CharacterFile, load_character
from sosie.workspace.library import model_roots, models_below
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, check_name
from sosie.workspace.writing import writing

SUFFIX, CHAR = ".sosie", ".char"


@dataclass(frozen=True)
class ExportedCharacter:
    """A file that holds a character: how many references, files of its calibration and LoRAs are in it.

    `left` are what it only names or leaves at home.
    """

    character: str
    path: Path
    bytes: int
    references: int
    calibration: int
    loras: int
    left: tuple[str, ...]


@dataclass(frozen=True)
class ImportedCharacter:
    """A character that came from a file; `left`: path and digest of LoRAs that neither it nor this workspace has."""

    character: Character
    folder: Path
    left: tuple[tuple[str, str], ...]


def export_character(workspace: Workspace, name: str, path: Path, with_loras: bool = False) -> ExportedCharacter:
    """Writes a character as one file: Sosie's own archive, or a `.char` where `path` ends so.

    Raises `UsageError` if the file is there or its ending is another, `DeliveryError` if it cannot be written.
    """
    if path.suffix not in (SUFFIX, CHAR):
        raise UsageError(
            f"{path} ends in '{path.suffix}'; expected {SUFFIX}, or {CHAR} for OpenChar", f"{name}{SUFFIX}"
        )
    if is_there(path):
        raise UsageError(f"{path} is there already", "name another file")
    with writing(workspace, name) as folder:
        character = load_character(workspace, name)
        try:
            if path.suffix == CHAR:
                written = write_char(folder, character, path)
                left = ("its declaration of likeness and age", "calibration", *(lora.file for lora in character.loras))
                return ExportedCharacter(name, path, path.stat().st_size, written, 0, 0, left)
            carried = [one.path for one in write_archive(folder, character, path, with_loras)]
        except OSError as error:
            raise DeliveryError(f"{path} could not be written: {error.strerror}", "free some space") from None

    def count(kind: str) -> int:
        return sum(one.startswith(f"{kind}/") for one in carried)

    left = tuple(lora.file for lora in character.loras if lora.file not in carried)
    return ExportedCharacter(
        name, path, path.stat().st_size, count("references"), count("calibration"), count("loras"), left
    )


def is_char_file(path: Path) -> bool:
    """Whether a file is a `.char`, which declares neither likeness nor age. Raises `BadFileError` for no archive."""
    with _opened(path) as members:
        return is_char(members)


def import_character(workspace: Workspace, path: Path, name: str = "") -> ImportedCharacter:
    """Makes a character of Sosie's own archive, as it was, by its own name or as `name`.

    A LoRA that the archive only names is taken from this workspace, where a file has its digest. Raises `BadFileError`,
    `UsageError` if the name is taken, `DeliveryError`.
    """
    with _opened(path) as members:
        held = read_archive(members)
        name = check_name(name or held.details.name)
        wanted = missing_loras(held)
        weights = with_digest(_weights_here(workspace), wanted) if wanted else {}
        with writing(workspace, name) as folder:
            _expect_free(folder, path)
            try:
                unpack(members, held, name, folder, weights)
            except OSError as error:
                raise DeliveryError(
                    f"{folder} could not be written: {error.strerror or error}", "free some space"
                ) from None
    left = tuple(row for row in wanted if row[0] not in weights)
    return ImportedCharacter(load_character(workspace, name), folder, left)


def import_char(session: Session, path: Path, details: CharacterFile) -> NewCharacter:
    """Makes a character of a `.char`: its references are checked as those of `sosie new` are.

    `details.name` empty: the file's; the description is the file's where `details` has none.
    """
    with _opened(path) as members, tempfile.TemporaryDirectory() as folder:
        held = read_char(members)
        name = details.name or "-".join(held.name.split())
        details = replace(details, name=check_name(name), description=details.description or held.description)
        return new_character(session, details, extract(members, held.references, Path(folder)))


def _opened(path: Path) -> AbstractContextManager[Members]:
    if not is_there(path):
        raise NotFoundError(f"{path} does not exist")
    return open_members(path)


def _expect_free(folder: Path, path: Path) -> None:
    if folder.exists():
        raise UsageError(
            f"character '{folder.name}' exists already in {folder}", f"sosie character import {path} --as OTHER-NAME"
        )


def _weights_here(workspace: Workspace) -> Iterator[Path]:
    """The LoRAs of all characters, and the files in the folders of models."""
    yield from sorted(workspace.characters.glob("*/loras/*"))
    for root in model_roots(workspace):
        yield from models_below(root)
