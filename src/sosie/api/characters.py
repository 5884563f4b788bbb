"""Making a character of reference images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Character
from sosie.core.errors import DeliveryError, UsageError
from sosie.files.toml import load_toml
from sosie.workspace.characters import CharacterFile, load_character, require_adult, write_character
from sosie.workspace.session import Session
from sosie.workspace.workspace import check_name
from sosie.workspace.writing import writing

if TYPE_CHECKING:
    from sosie.faces.references import ReferenceReport


@dataclass(frozen=True)
class NewCharacter:
    """A character that is made and what happened to the images that were offered."""

    character: Character
    folder: Path
    report: ReferenceReport


def new_character(
    session: Session, details: CharacterFile, images: Sequence[Path], replace: bool = False
) -> NewCharacter:
    """Checks the images and makes the character's folder of the good ones, whole or not at all.

    With `replace` a character of that name gets these details and references; its LoRAs, calibration and dataset stay.
    Raises `UsageError` if the name is taken (and not `replace`) or no image is good.
    """
    from sosie.faces.references import check_references

    check_name(details.name)
    require_adult(details.adult, details.name)
    target = session.workspace.characters / details.name
    _expect_free(target, replace)
    encoders, _ = session.judges
    report = check_references(images, session.detector, encoders["sface"])
    if not report.kept:
        first = next((finding.message for finding in report.findings if finding.severity != "info"), "")
        raise UsageError(
            f"none of {len(images)} images can be a reference of '{details.name}': {first}",
            "offer sharp images with exactly one face each",
        )
    with writing(session.workspace, details.name):
        _expect_free(target, replace)
        if (target / "character.toml").exists():
            old = load_toml(CharacterFile, target / "character.toml")
            details = dataclasses.replace(details, loras=old.loras)
        try:
            write_character(details, report.kept, target)
        except OSError as error:
            raise DeliveryError(
                f"the character's folder {target} could not be written: {error.strerror}",
                "free some space or choose another --workspace",
            ) from None
    return NewCharacter(load_character(session.workspace, details.name), target, report)


def _expect_free(target: Path, replace: bool) -> None:
    if target.exists() and not replace:
        raise UsageError(
            f"character '{target.name}' exists already in {target}", f"sosie new {target.name} ... --replace"
        )
