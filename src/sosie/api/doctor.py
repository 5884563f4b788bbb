"""The doctor: whatever is named, it is found out what it is and what is wrong with it."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sosie.api.needs import (
    MODEL_SUFFIXES,
    Examination,
    check_here,
    check_purpose,
    is_dataset,
    needs_of_all,
    subject_path,
)
from sosie.api.recipes import R001
from sosie.core import Draw, Finding, Recipe, Request, Result, plan
from sosie.core.errors import NotFoundError, SosieError, UsageError, nearest
from sosie.core.finding import Rule, RuleError
from sosie.core.plan import needed_stages
from sosie.doctor.disk import DiskPlan
from sosie.doctor.leftovers import is_partial
from sosie.doctor.recipe_needs import check_plan, needs_of
from sosie.engines import find_scheme
from sosie.engines.scheme import Scheme
from sosie.files.regular import is_there
from sosie.workspace.bill import resolve
from sosie.workspace.recipes import find_recipe, list_recipes, load_recipe, read_recipe
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.doctor.examined import Examined
    from sosie.files.model_file import ModelFile
    from sosie.lab.check import CheckedArm
    from sosie.servers.report import Asked, ServerReport

C010 = Rule("SOS-C010", "error", "A character's file is incomplete or wrong")

Kind = Literal["machine", "server", "model", "lora", "recipe", "workflow", "character", "dataset", "experiment"]

MANY = 64
"""Files from which on a folder is examined by several processes."""


@dataclass(frozen=True)
class Checkup(Result):
    """What one subject is and what was found. `what` is the model or LoRA of a file, None where it is not known.

    `disk` is a recipe's disk plan, `server` what a ComfyUI server says of itself, `arms` are an experiment's: each with
    what was found in it alone.
    """

    subject: str
    kind: Kind
    path: str = ""
    what: ModelFile | None = None
    findings: tuple[Finding, ...] = ()
    disk: DiskPlan | None = None
    server: ServerReport | None = None
    arms: tuple[CheckedArm, ...] = ()


def examine(workspace: Workspace, subjects: tuple[str, ...], how: Examination) -> Generator[Checkup]:
    """One checkup a subject, or a file below a folder; without subjects, the machine's."""
    how = replace(how, purpose=check_purpose(workspace, subjects, how))
    if how.recipe and not any(map(is_server, subjects)):
        hint = f"sosie doctor {how.recipe}, or sosie doctor comfy:URL --recipe {how.recipe}"
        raise UsageError("--recipe says what a ComfyUI server shall run, and none was named", hint)
    _expect_workflow(subjects, how)
    if not subjects or how.machine is not None:
        yield _machine(workspace, subjects, how)
    for subject in subjects:
        yield from _subject(workspace, subject, how)


def _expect_workflow(subjects: tuple[str, ...], how: Examination) -> None:
    """Raises `UsageError` for servers of a workflow that run none, or for none that was named."""
    if not how.engine:
        return
    if not is_server(how.engine):
        raise UsageError(f"engine '{how.engine}' runs no ComfyUI workflows", "--engine comfy:http://127.0.0.1:8188")
    if not any(subject_path(subject).suffix == ".json" for subject in subjects):
        hint = f"sosie doctor WORKFLOW.json --engine {how.engine}"
        raise UsageError("--engine says where a workflow is to run, and none was named", hint)


def is_server(subject: str) -> bool:
    """Whether a subject is the address of ComfyUI servers."""
    scheme = _scheme(subject)
    return scheme is not None and scheme.runs_graphs


def is_elsewhere(subject: str) -> bool:
    """Whether a subject is the address of machines, or of servers, that only an engine reaches."""
    scheme = _scheme(subject)
    return scheme is not None and (scheme.runs_graphs or scheme.examine is not None)


def _scheme(subject: str) -> Scheme | None:
    return find_scheme(subject) if ":" in subject else None


def _subject(workspace: Workspace, subject: str, how: Examination) -> Generator[Checkup]:
    """An address; else an existing path wins, then a recipe's name, then a character's, or it is a clash."""
    scheme = _scheme(subject)
    if scheme is not None and scheme.runs_graphs:
        yield from _servers(workspace, subject, how)
        return
    if scheme is not None and scheme.examine is not None:
        for name, findings in scheme.examine(subject, workspace):
            yield Checkup(name, "machine", findings=findings)
        return
    kind, colon, name = subject.partition(":")
    if colon and kind in ("recipe", "character"):
        yield _recipe(workspace, name, how) if kind == "recipe" else _character(workspace, name)
        return
    path = subject_path(subject)
    if is_there(path):
        if not (path.is_file() or path.is_dir()):
            raise UsageError(f"'{subject}' is a pipe or a device; expected a file or a folder")
        yield from _path(workspace, path, subject, how)
        return
    recipes = set(list_recipes(workspace))
    characters = {folder.parent.name for folder in workspace.characters.glob("*/character.toml")}
    if subject in recipes and subject in characters:
        raise UsageError(
            f"'{subject}' is both a recipe and a character", f"sosie doctor recipe:{subject} character:{subject}"
        )
    if subject in recipes:
        yield _recipe(workspace, subject, how)
    elif subject in characters:
        yield _character(workspace, subject)
    else:
        known = nearest(subject, recipes | characters)
        raise NotFoundError(f"'{subject}' is no file, no recipe and no character{known}", "sosie recipe list")


def _servers(workspace: Workspace, address: str, how: Examination) -> Generator[Checkup]:
    """Each server and its machine's model files; these without a path, for Sosie mends nothing in their folders."""
    from sosie.servers.report import Asked, ServerExamined, examine_servers

    asked = _asked(workspace, how) if how.recipe else Asked()
    for found in examine_servers(workspace, address, asked):
        if isinstance(found, ServerExamined):
            yield Checkup(found.subject, "server", findings=found.findings, server=found.report)
        else:
            yield checkup_of(found)


def _asked(workspace: Workspace, how: Examination) -> Asked:
    """The programs of an image and of its repair, for a character without a LoRA, and what they need."""
    from sosie.api.comfy_graphs import PROMPT, SOMEBODY, open_compiler
    from sosie.doctor.remote import LEAST_DISK
    from sosie.servers.report import Asked
    from sosie.workspace.session import Session

    recipe = load_recipe(workspace, how.recipe)
    bill = resolve(workspace, needed_stages(recipe), remote=True)
    needs = needs_of(recipe, bill, how.purpose)
    request = Request(recipe.name, SOMEBODY.name, PROMPT)
    draws = (Draw(), Draw(attempt=1, source="0" * 64)) if recipe.repair else (Draw(),)
    plans = [plan(recipe, SOMEBODY, request, draw, dict.fromkeys(bill.entries, "")) for draw in draws]
    with Session(workspace) as session:
        compiler = open_compiler(session, bill)
        programs = tuple(replace(compiler(one), memory=needs.vram_mib * 2**20) for one in plans)
    return Asked(recipe.name, programs, replace(needs, disk_bytes=LEAST_DISK))


def _path(workspace: Workspace, path: Path, subject: str, how: Examination) -> Generator[Checkup]:
    if path.is_file():
        if path.suffix == ".toml":
            yield _experiment(workspace, path, subject) or _recipe_file(workspace, path, subject, how)
        else:
            is_graph = path.suffix == ".json"
            yield _workflow(workspace, path, subject, how) if is_graph else _file(workspace, path, subject)
    elif (path / "character.toml").is_file():
        yield _character(workspace, path.name)
    elif (path / "model_index.json").is_file():
        yield _file(workspace, path, subject)
    elif is_dataset(path):
        yield _dataset(path, subject, how)
    else:
        files = sorted(file for file in path.rglob("*") if _is_of_a_model(file) and file.is_file())
        if not files:
            wanted = ", ".join(MODEL_SUFFIXES)
            raise NotFoundError(f"{path} holds no model file ({wanted}), no dataset and no character")
        yield from _files(workspace, files)


def _files(workspace: Workspace, files: list[Path]) -> Generator[Checkup]:
    """Every file's checkup, in order; many files on all cores."""
    examine_one = partial(_of_folder, workspace)
    if len(files) < MANY:
        yield from map(examine_one, files)
        return
    with ProcessPoolExecutor() as pool:
        yield from pool.map(examine_one, files, chunksize=8)


def _of_folder(workspace: Workspace, file: Path) -> Checkup:
    return _file(workspace, file, str(file))


def _is_of_a_model(file: Path) -> bool:
    return file.suffix.lower() in MODEL_SUFFIXES or is_partial(file)


def _file(workspace: Workspace, path: Path, subject: str) -> Checkup:
    from sosie.doctor.examined import examine_file

    return checkup_of(examine_file(path, subject, workspace.known_table), str(path))


def checkup_of(found: Examined, path: str = "") -> Checkup:
    """The checkup of a model file or LoRA that was examined; without `path` nothing of it is mended."""
    kind = "lora" if found.what and found.what.role == "lora" else "model"
    return Checkup(found.subject, kind, path, found.what, found.findings)


def _recipe(workspace: Workspace, name: str, how: Examination) -> Checkup:
    path = str(find_recipe(workspace, name).path)
    try:
        return _of_recipe(workspace, load_recipe(workspace, name), Checkup(name, "recipe", path), how)
    except SosieError as error:
        return Checkup(name, "recipe", path, findings=(_broken_recipe(name, error),))


def _recipe_file(workspace: Workspace, path: Path, subject: str, how: Examination) -> Checkup:
    try:
        return _of_recipe(workspace, read_recipe(path), Checkup(subject, "recipe", str(path)), how)
    except SosieError as error:
        return Checkup(subject, "recipe", str(path), findings=(_broken_recipe(subject, error),))


def _experiment(workspace: Workspace, path: Path, subject: str) -> Checkup | None:
    """An experiment's arms; None for a file that is none's."""
    from sosie.lab.check import check_experiment
    from sosie.lab.experiment import is_experiment, read_experiment

    if not is_experiment(path):
        return None
    try:
        checked = check_experiment(workspace, read_experiment(path), path)
    except RuleError as error:
        return Checkup(subject, "experiment", str(path), findings=(error.finding(str(path)),))
    return Checkup(subject, "experiment", str(path), findings=checked.findings, arms=checked.arms)


def _of_recipe(workspace: Workspace, recipe: Recipe, checkup: Checkup, how: Examination) -> Checkup:
    """The recipe's files, and whether disk and card (unless recorded ones are asked about) are large enough."""
    from sosie.doctor.recipes import check_recipe

    bill = resolve(workspace, needed_stages(recipe))
    findings = check_recipe(recipe, bill)
    plan, more = check_plan(recipe, bill, how.purpose, workspace.root)
    if how.machine is None and not how.purpose.quota:
        more += check_here(workspace.root, recipe, bill, how.purpose)
    return replace(checkup, findings=(*findings, *more), disk=plan)


def _workflow(workspace: Workspace, path: Path, subject: str, how: Examination) -> Checkup:
    """A ComfyUI graph: its wires, its files, and what each sampler is put together from; or on servers."""
    if how.engine:
        from sosie.servers.workflows import check_on_servers

        return Checkup(subject, "workflow", str(path), findings=tuple(check_on_servers(workspace, path, how.engine)))
    from sosie.doctor.workflows import check_workflow

    findings = check_workflow(workspace, path, workspace.known_table)
    return Checkup(subject, "workflow", str(path), findings=tuple(findings))


def _broken_recipe(name: str, error: SosieError) -> Finding:
    return R001.at(name, error.message, error.hint)


def _character(workspace: Workspace, name: str) -> Checkup:
    """Declarations and references, as `sosie new` checks them."""
    from sosie.faces.references import check_references
    from sosie.workspace.characters import load_character
    from sosie.workspace.session import Session

    folder = workspace.characters / name
    try:
        character = load_character(workspace, name)
    except SosieError as error:
        return Checkup(name, "character", str(folder), findings=(C010.at(name, error.message, error.hint),))
    with Session(workspace) as session:
        paths = list(session.reference_paths(character).values())
        report = check_references(paths, session.detector, session.judges[0]["sface"])
    return Checkup(name, "character", str(folder), findings=report.findings)


def _dataset(path: Path, subject: str, how: Examination) -> Checkup:
    from sosie.dataset.check import check_dataset
    from sosie.dataset.check.precision import check_precision

    report = check_dataset(path, how.trigger)
    precision = check_precision(how.family, how.purpose.precision)
    return Checkup(subject, "dataset", str(path), findings=(*report.findings, *precision))


def _machine(workspace: Workspace, subjects: tuple[str, ...], how: Examination) -> Checkup:
    """The machine that runs this, or a recorded one against what the recipes among the subjects need."""
    from sosie.doctor.machine import Needs, check_machine
    from sosie.machines.facts import machine_from_file, read_machine

    if how.machine is None:
        return Checkup(
            "this machine", "machine", findings=tuple(check_machine(read_machine(workspace.root), Needs(gpu=False)))
        )
    facts, needs = machine_from_file(how.machine), needs_of_all(workspace, subjects, how.purpose)
    return Checkup(str(how.machine), "machine", findings=tuple(check_machine(facts, needs)))
