"""The doctor: whatever is named, it is found out what it is and what is wrong with it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sosie.api.characters import load_character
from sosie.api.models import known_table
from sosie.api.recipes import find_recipe, list_recipes, load_recipe, read_recipe
from sosie.core import Finding, Recipe
from sosie.core.errors import NotFoundError, SosieError, UsageError, nearest
from sosie.core.workspace import Workspace

Kind = Literal["machine", "model", "lora", "recipe", "character", "dataset"]

MODEL_SUFFIXES = (".safetensors", ".sft", ".gguf", ".bin", ".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class Checkup:
    """What one subject is and what was found. Model fields are empty (parameters 0) where unknown."""

    subject: str
    kind: Kind
    path: str = ""
    role: str = ""
    family: str = ""
    variant: str = ""
    layout: str = ""
    storage: str = ""
    parameters: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Examination:
    """How to look: recorded `nvidia-smi` text in place of this machine, and a dataset's trigger."""

    machine: Path | None = None
    trigger: str = ""


def examine(workspace: Workspace, subjects: tuple[str, ...], how: Examination) -> Generator[Checkup]:
    """One checkup a subject, or a file below a folder; without subjects, the machine's."""
    if not subjects or how.machine is not None:
        yield _machine(workspace, how.machine)
    for subject in subjects:
        yield from _subject(workspace, subject, how)


def _subject(workspace: Workspace, subject: str, how: Examination) -> Generator[Checkup]:
    """An existing path wins, then a recipe's name, then a character's; a clash must be resolved."""
    kind, colon, name = subject.partition(":")
    if colon and kind in ("recipe", "character"):
        yield _recipe(workspace, name) if kind == "recipe" else _character(workspace, name)
        return
    path = workspace.path(subject)
    if path.exists():
        yield from _path(workspace, path, subject, how)
        return
    recipes = set(list_recipes(workspace))
    characters = {folder.parent.name for folder in workspace.characters.glob("*/character.toml")}
    if subject in recipes and subject in characters:
        raise UsageError(
            f"'{subject}' is both a recipe and a character", f"sosie doctor recipe:{subject} character:{subject}"
        )
    if subject in recipes:
        yield _recipe(workspace, subject)
    elif subject in characters:
        yield _character(workspace, subject)
    else:
        known = nearest(subject, recipes | characters)
        raise NotFoundError(f"'{subject}' is no file, no recipe and no character{known}", "sosie recipe list")


def _path(workspace: Workspace, path: Path, subject: str, how: Examination) -> Generator[Checkup]:
    if path.is_file():
        yield _recipe_file(workspace, path, subject) if path.suffix == ".toml" else _file(workspace, path, subject)
    elif (path / "character.toml").is_file():
        yield _character(workspace, path.name)
    elif (path / "model_index.json").is_file():
        yield _file(workspace, path, subject)
    elif _is_dataset(path):
        yield _dataset(path, subject, how)
    else:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in MODEL_SUFFIXES and file.is_file())
        if not files:
            wanted = ", ".join(MODEL_SUFFIXES)
            raise NotFoundError(f"{path} holds no model file ({wanted}), no dataset and no character")
        for file in files:
            yield _file(workspace, file, str(file))


def _file(workspace: Workspace, path: Path, subject: str) -> Checkup:
    """A LoRA if its tensors are named as one, else a model file."""
    from sosie.doctor.loras import check_lora
    from sosie.doctor.model_files import check_model_file
    from sosie.files.lora import read_lora
    from sosie.files.model_file import Known

    try:
        lora = read_lora(path) if path.suffix in (".safetensors", ".sft") else None
    except SosieError:
        lora = None
    if lora is not None:
        findings = tuple(check_lora(path))
        return Checkup(
            subject, "lora", str(path), "lora", lora.family, lora.variant, lora.layout.title, findings=findings
        )
    answer, found = check_model_file(path, known_table(workspace))
    if isinstance(answer, Known):
        m = answer.model
        return Checkup(
            subject, "model", str(path), m.role, m.family, m.variant, m.layout, m.storage, m.parameters, tuple(found)
        )
    return Checkup(subject, "model", str(path), findings=tuple(found))


def _recipe(workspace: Workspace, name: str) -> Checkup:
    path = str(find_recipe(workspace, name).path)
    try:
        return Checkup(name, "recipe", path, findings=_about_recipe(workspace, load_recipe(workspace, name)))
    except SosieError as error:
        return Checkup(name, "recipe", path, findings=(_broken_recipe(name, error),))


def _recipe_file(workspace: Workspace, path: Path, subject: str) -> Checkup:
    try:
        return Checkup(subject, "recipe", str(path), findings=_about_recipe(workspace, read_recipe(path)))
    except SosieError as error:
        return Checkup(subject, "recipe", str(path), findings=(_broken_recipe(subject, error),))


def _about_recipe(workspace: Workspace, recipe: Recipe) -> tuple[Finding, ...]:
    """The recipe's files, and whether this disk holds what they and a hundred images need."""
    from sosie.doctor.disk import DiskNeeds, OutputImages, check_free, plan_disk, recipe_files
    from sosie.doctor.models import check_assets

    findings = check_assets(workspace, recipe)
    outputs = OutputImages(100, recipe.width * recipe.height)
    plan = plan_disk(DiskNeeds(recipe_files(workspace, recipe), tuple(s.family for s in recipe.stages), outputs))
    return (*findings, *check_free(plan, workspace.root))


def _broken_recipe(name: str, error: SosieError) -> Finding:
    return Finding("SOS-R001", "error", name, error.message, error.hint)


def _character(workspace: Workspace, name: str) -> Checkup:
    """Declarations and references, as `sosie new` checks them."""
    from sosie.api.session import Session
    from sosie.faces.references import check_references

    folder = workspace.characters / name
    try:
        character = load_character(workspace, name)
    except SosieError as error:
        return Checkup(
            name, "character", str(folder), findings=(Finding("SOS-C010", "error", name, error.message, error.hint),)
        )
    with Session(workspace) as session:
        paths = list(session.reference_paths(character).values())
        report = check_references(paths, session.detector, session.judges[0]["sface"])
    return Checkup(name, "character", str(folder), findings=report.findings)


def _dataset(path: Path, subject: str, how: Examination) -> Checkup:
    from sosie.doctor.dataset import check_dataset

    report = check_dataset(path, how.trigger)
    return Checkup(subject, "dataset", str(path), findings=report.findings)


def _is_dataset(path: Path) -> bool:
    """A folder of images with captions: a caption file of the folder, or a text beside an image."""
    from sosie.files.images import is_image_name

    if any((path / name).is_file() for name in ("captions.jsonl", "metadata.jsonl")):
        return True
    return any(is_image_name(file) and file.with_suffix(".txt").is_file() for file in path.iterdir())


def _machine(workspace: Workspace, recorded: Path | None) -> Checkup:
    from sosie.doctor.machine import Needs, check_machine
    from sosie.doctor.machine_facts import machine_from_file, read_machine

    facts = read_machine(workspace.root) if recorded is None else machine_from_file(recorded)
    subject = "this machine" if recorded is None else str(recorded)
    return Checkup(subject, "machine", findings=tuple(check_machine(facts, Needs(gpu=recorded is not None))))
