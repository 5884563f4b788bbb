"""Making a character of reference images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Character, Finding
from sosie.core.errors import DeliveryError, NotFoundError, SosieError, UsageError
from sosie.core.finding import Rule
from sosie.core.printable import printable
from sosie.files.picture_kinds import is_left_by_system, kind_of, pictures_in
from sosie.files.toml import load_toml
from sosie.files.whole import change_text
from sosie.loop.judging import J009, make_judge
from sosie.workspace.characters import CharacterFile, load_character, require_adult, with_words, write_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace, check_name
from sosie.workspace.writing import writing

if TYPE_CHECKING:
    from sosie.faces.references import ReferenceReport


C009 = Rule("SOS-C009", "info", "Files beside offered references are no pictures")


@dataclass(frozen=True)
class NewCharacter:
    """A character that is made and what happened to the images that were offered, `offered` in number.

    `judging` is what its references do to its judges (SOS-J009).
    """

    character: Character
    folder: Path
    report: ReferenceReport
    offered: int = 0
    judging: tuple[Finding, ...] = ()


SHOWN = 8
"""How many images an error names."""


def new_character(
    session: Session, details: CharacterFile, images: Sequence[Path], replace: bool = False
) -> NewCharacter:
    """Checks the images, those of a folder too, and makes the character's folder of the good ones, whole or not at all.

    With `replace` a character of that name gets these details and references; its LoRAs, calibration and dataset stay.
    Raises `UsageError` if the name is taken (and not `replace`) or no image is good.
    """
    from sosie.faces.references import check_references

    details = dataclasses.replace(details, name=check_name(details.name))
    images, others = _offered(images)
    require_adult(details.adult, details.name)
    target = session.workspace.characters / details.name
    _expect_free(target, replace)
    encoders, _ = session.judges
    report = check_references(images, session.detector, encoders["sface"])
    report = dataclasses.replace(report, notes=(*report.notes, *others))
    if not report.kept:
        whys = [finding.message for finding in report.findings if finding.severity != "info"]
        more = f"; and {len(whys) - SHOWN} more" if len(whys) > SHOWN else ""
        raise UsageError(
            f"none of {len(images)} images can be a reference of '{details.name}': {'; '.join(whys[:SHOWN])}{more}",
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
    made = load_character(session.workspace, details.name)
    return NewCharacter(made, target, report, len(images), _worn(session, made))


def edit_character(
    workspace: Workspace, name: str, description: str | None = None, marks: Sequence[str] | None = None
) -> Character:
    """Gives a character another description or other marks; None leaves one as it is, and empty marks are left out.

    What is drawn from now on has the new words. Raises `UsageError` where neither is given, `NotFoundError`, and
    `DeliveryError`.
    """
    if description is None and marks is None:
        raise UsageError("nothing is changed; expected a description or marks", "sosie character edit --help")
    with writing(workspace, name) as folder:
        old = load_character(workspace, name)
        path = folder / "character.toml"
        new_marks = old.marks if marks is None else [text for mark in marks if (text := mark.strip())]
        words = old.description if description is None else description.strip()
        try:
            change_text(path, lambda text: with_words(text, words, new_marks, path))
        except OSError as error:
            raise DeliveryError(f"{path} could not be written: {error.strerror}", "free some space") from None
    return load_character(workspace, name)


def _worn(session: Session, character: Character) -> tuple[Finding, ...]:
    """SOS-J009 for the character's recipe; nothing where it cannot be judged yet: the commands that judge say why."""
    try:
        _, findings = make_judge(session, character, load_recipe(session.workspace, character.recipe or "mini"), None)
    except SosieError:
        return ()
    return tuple(finding for finding in findings if finding.code == J009.code)


def _offered(paths: Sequence[Path]) -> tuple[list[Path], list[Finding]]:
    """The images, with those that lie directly in the folders among the paths; SOS-C009 for what else lies there."""
    images: list[Path] = []
    findings: list[Finding] = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        found = _listed(path, pictures_in)
        if not found:
            below = [place.name for place in _listed(path, lambda one: one.iterdir()) if place.is_dir()]
            inside = [name for name in sorted(below) if _listed(path / name, pictures_in)]
            hint = f"give the folder that has them: {', '.join(inside[:5])}" if inside else ""
            raise NotFoundError(f"{path} has no images", hint)
        images += found
        findings += _others(path)
    return images, findings


def _listed(folder: Path, look: Callable[[Path], Iterable[Path]]) -> list[Path]:
    try:
        return list(look(folder))
    except OSError as error:
        raise NotFoundError(f"{folder} cannot be read: {error.strerror or error}") from None


def _others(folder: Path) -> Iterator[Finding]:
    pictures = set(pictures_in(folder))
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not is_left_by_system(path.name))
    others = [f"{printable(path.name)} ({kind_of(path).what})" for path in files if path not in pictures]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        yield C009.at(str(folder), f"{folder}: not looked at: {', '.join(others[:5])}{more}")


def _expect_free(target: Path, replace: bool) -> None:
    if target.exists() and not replace:
        raise UsageError(
            f"character '{target.name}' exists already in {target}", f"sosie new {target.name} ... --replace"
        )
