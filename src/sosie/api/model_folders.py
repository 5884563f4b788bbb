"""`sosie model add FOLDER`: what a folder of models holds, what of recipes it fills, and `sosie.toml` that names it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from sosie.core import Finding, Recipe
from sosie.core.errors import DeliveryError, NotFoundError, SosieError, UsageError
from sosie.core.event import Progress, Result
from sosie.core.plan import needed_stages
from sosie.doctor.places import FoundFile, Slot, choose, fits, is_told, look_at, slots_of
from sosie.families import terms_of
from sosie.files.regular import is_there
from sosie.files.whole import change_text, write_whole
from sosie.workspace.bill import Resolved, resolve
from sosie.workspace.config_text import with_models
from sosie.workspace.library import model_roots, models_below
from sosie.workspace.recipes import list_recipes, read_recipe
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import locked

MODELS, BESIDE = "models", ("comfy", "custom_nodes", "main.py")
"""Where the models lie in ComfyUI's own folder, and what lies beside it there."""


@dataclass(frozen=True)
class Place:
    """A place in a recipe that a file fills: the recipe, its stage, what the file is there, and its name there."""

    recipe: str
    stage: str
    what: str
    name: str


@dataclass(frozen=True)
class AddedFile(Result):
    """A file or model, by its path and its `name` in the folder: what it is, the places that it fills, its licence.

    `use` is the command that makes use of it, where no recipe names it.
    """

    path: Path
    name: str
    role: str
    what: str
    places: tuple[Place, ...] = ()
    findings: tuple[Finding, ...] = ()
    terms: str = ""
    use: str = ""


@dataclass(frozen=True)
class AddedRecipe(Result):
    """A recipe of which the folder fills places: all its files by name, and those that are missing or not clear.

    `unclear` are names for which several files would do, or one whose header does not tell it from others; `wrong` are
    names whose file does not suit them, with why.
    """

    recipe: str
    files: Mapping[str, Path]
    missing: tuple[str, ...] = ()
    unclear: Mapping[str, tuple[Path, ...]] = field(default_factory=dict[str, tuple[Path, ...]])
    wrong: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_whole(self) -> bool:
        """Whether every file is here and suits its place."""
        return not (self.missing or self.unclear or self.wrong)


@dataclass(frozen=True)
class AddedFolder(Result):
    """What `sosie.toml` has now, or would have in a dry run: new model folders, and new entries of `[models]`.

    `licences` are those that bind what is made with the recipes, each with the files that have it.
    """

    config: Path
    folders: tuple[str, ...]
    models: Mapping[str, str]
    licences: Mapping[str, tuple[str, ...]]
    written: bool


Events = Generator[Progress | AddedFile | AddedRecipe | AddedFolder]


def add_folder(workspace: Workspace, folder: Path, chosen: Mapping[str, str], dry_run: bool = False) -> Events:
    """Looks at every model below `folder`, and writes `sosie.toml` unless it is a dry run.

    `chosen` says by the user's word which file (below the folder, or any path) a name of recipes means. Raises
    `NotFoundError` for a folder that is none or holds no model, `UsageError` for a name that no recipe has,
    `ConfigError` for a `sosie.toml` that cannot be added to, and `DeliveryError`.
    """
    root = _models_of(folder)
    found = yield from _look(workspace, root)
    wider = replace(workspace, config=replace(workspace.config, model_folders=_folders(workspace, root)))
    recipes = _recipes(workspace)
    slots = _by_name(recipes)
    own = {name: _chosen(name, path, root, slots) for name, path in chosen.items()}
    sizes = {file.name: file.bytes for recipe in recipes for file in recipe.files}
    given = _Given(root, found, own, workspace.config.models, sizes, workspace.known_table)
    bill = resolve(wider, tuple(stage for recipe in recipes for stage in needed_stages(recipe)))
    choices = {name: _choose(many, bill[name], given) for name, many in slots.items()}
    below = {file.path for file in found}
    told = [_told(recipe, choices) for recipe in recipes if _concerns(recipe, choices, below)]
    yield from _files((root, found), slots, choices)
    yield from told
    models = {name: choice.entry for name, choice in choices.items() if choice.entry}
    new = wider.config.model_folders[len(workspace.config.model_folders) :]
    entries = {name: _written(workspace, path) for name, path in models.items()}
    if not dry_run:
        _write(workspace, new, entries)
    licences = _licences(recipes, {one.recipe for one in told}, choices)
    yield AddedFolder(workspace.root / "sosie.toml", new, entries, licences, not dry_run and bool(new or entries))


@dataclass(frozen=True)
class _Choice:
    """Which file a name means: `path`; `entry` if `sosie.toml` must say it; else why there is none."""

    path: Path | None = None
    entry: Path | None = None
    several: tuple[Path, ...] = ()
    wrong: str = ""


@dataclass(frozen=True)
class _Given:
    """What is chosen from: the files below `root`; and what the user, `sosie.toml` and the recipes say of names."""

    root: Path
    found: tuple[FoundFile, ...]
    chosen: Mapping[str, Path]
    configured: Mapping[str, str]
    sizes: Mapping[str, int]
    known: Path

    @cached_property
    def looked(self) -> dict[Path, FoundFile]:
        """The files by their paths."""
        return {file.path: file for file in self.found}


def _models_of(folder: Path) -> Path:
    if not (is_there(folder) and folder.is_dir()):
        raise NotFoundError(f"{folder} is not a folder", "name the folder that your models lie in")
    plain = Path(os.path.normpath(folder.absolute()))
    root = plain if plain.samefile(folder) else folder.resolve()  # `..` after a link leads elsewhere
    is_comfy = (root / MODELS).is_dir() and any((root / name).exists() for name in BESIDE)
    return root / MODELS if is_comfy else root


def _look(workspace: Workspace, root: Path) -> Generator[Progress, None, tuple[FoundFile, ...]]:
    paths = list(models_below(root))
    if not paths:
        raise NotFoundError(f"{root} holds no model file", "name the folder that your models lie in")
    found: list[FoundFile] = []
    for done, path in enumerate(paths):
        yield Progress(f"reading {path.name}", done, len(paths))
        found.append(look_at(path, workspace.known_table))
    return tuple(found)


def _folders(workspace: Workspace, root: Path) -> tuple[str, ...]:
    """The model folders with this one, if it does not lie in one of them already."""
    known = [place.resolve() for place in model_roots(workspace)]
    if any(place == root.resolve() or place in root.resolve().parents for place in known):
        return workspace.config.model_folders
    return (*workspace.config.model_folders, _written(workspace, root))


def _written(workspace: Workspace, path: Path) -> str:
    """A path as `sosie.toml` has it: from the workspace on where it lies in it."""
    root = workspace.root.absolute()
    return path.relative_to(root).as_posix() if root in path.parents else path.as_posix()


def _recipes(workspace: Workspace) -> tuple[Recipe, ...]:
    """The recipes that can be read; `sosie recipe check` says of the others what is wrong."""
    found: list[Recipe] = []
    for listed in list_recipes(workspace).values():
        try:
            found.append(read_recipe(listed.path))
        except SosieError:
            continue
    return tuple(found)


def _by_name(recipes: Sequence[Recipe]) -> dict[str, list[Slot]]:
    slots: dict[str, list[Slot]] = defaultdict(list)
    for recipe in recipes:
        for slot in slots_of(recipe):
            slots[slot.name].append(slot)
    return slots


def _chosen(name: str, path: str, root: Path, slots: Mapping[str, list[Slot]]) -> Path:
    if name not in slots:
        raise UsageError(f"no recipe names a file '{name}'", f"expected one of {', '.join(sorted(slots))}")
    places = (root / path, root / MODELS / path, Path(path).absolute())
    found = next((place for place in places if is_there(place)), None)
    if found is None:
        raise NotFoundError(f"--use {name}={path}: there is no such file", f'--use "{name}=PATH"')
    return found


def _choose(slots: Sequence[Slot], entry: Resolved, given: _Given) -> _Choice:
    """The user's word first, then the file of that name if it suits, then the one that suits by its header."""
    name = entry.name
    if name in given.chosen:
        return _Choice(given.chosen[name], given.chosen[name])
    wrong = ""
    if entry.path is not None:
        if given.root not in entry.path.parents:
            return _Choice(entry.path)  # of a package, or of another folder
        file = given.looked.get(entry.path) or look_at(entry.path, given.known)
        plain = given.looked.get(entry.path.with_suffix(".safetensors"))
        if (
            name in given.configured
            and plain is not None
            and plain is not file
            and all(fits(one, plain) for one in slots)
        ):
            return _Choice(plain.path, plain.path)  # what was a pickle when it was added
        if all(fits(slot, file) for slot in slots):
            return _Choice(entry.path)
        wrong = next((one.message for one in file.findings if one.severity == "error"), f"{file.path} is {file.what}")
        if name in given.configured:
            return _Choice(wrong=wrong)
    best = choose(slots, given.found, given.sizes.get(name, 0))
    if len(best) == 1 and is_told(slots[0], best[0]):
        return _Choice(best[0].path, best[0].path)
    return _Choice(several=tuple(file.path for file in best), wrong=wrong)


def _concerns(recipe: Recipe, choices: Mapping[str, _Choice], below: set[Path]) -> bool:
    """Whether a file of the folder fills, or may fill, a place of a recipe."""
    mine = [choices[slot.name] for slot in slots_of(recipe)]
    return any(choice.path in below or choice.several or choice.wrong for choice in mine)


def _told(recipe: Recipe, choices: Mapping[str, _Choice]) -> AddedRecipe:
    mine = {slot.name: choices[slot.name] for slot in slots_of(recipe)}
    return AddedRecipe(
        recipe.name,
        {name: choice.path for name, choice in mine.items() if choice.path},
        tuple(name for name, one in mine.items() if not (one.path or one.several or one.wrong)),
        {name: choice.several for name, choice in mine.items() if choice.several},
        {name: choice.wrong for name, choice in mine.items() if choice.wrong},
    )


def _files(
    below: tuple[Path, Iterable[FoundFile]], slots: Mapping[str, list[Slot]], choices: Mapping[str, _Choice]
) -> Generator[AddedFile]:
    root, found = below
    places: dict[Path, list[Place]] = defaultdict(list)
    for name, many in slots.items():
        path = choices[name].path
        if path is not None:
            places[path] += [Place(slot.recipe, slot.stage.kind, slot.what, name) for slot in many]
    for file in found:
        filled = tuple(places.get(file.path, ()))
        model, lora = file.part.model, file.part.lora
        use = f"sosie lora add CHARACTER {file.path}" if lora is not None and lora.family and not filled else ""
        terms = terms_of(model) if model is not None else ""
        name = file.path.relative_to(root).as_posix()
        yield AddedFile(file.path, name, file.role, file.what, filled, file.findings, terms, use)


def _licences(
    recipes: Iterable[Recipe], concerned: set[str], choices: Mapping[str, _Choice]
) -> dict[str, tuple[str, ...]]:
    """Licences of recipes' files that do not leave what is made with them to their users."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for recipe in recipes:
        for slot in slots_of(recipe) if recipe.name in concerned else ():
            source, path = recipe.source_of(slot.name), choices[slot.name].path
            if source is None or source.commercial == "yes" or path is None:
                continue
            other = source.bytes and path.is_file() and path.stat().st_size != source.bytes
            found["not known: another file than the publisher's" if other else source.licence][slot.name] = None
    return {licence: tuple(names) for licence, names in found.items()}


def _write(workspace: Workspace, folders: Sequence[str], models: Mapping[str, str]) -> None:
    if not folders and not models:
        return
    file = workspace.root / "sosie.toml"
    with locked(workspace, "config", str(file)):
        try:
            if is_there(file):
                change_text(file, lambda text: with_models(text, folders, models, file))
            else:
                write_whole(file, with_models("", folders, models, file))
        except OSError as error:
            raise DeliveryError(f"{file} could not be written: {error.strerror or error}", "free some space") from None
