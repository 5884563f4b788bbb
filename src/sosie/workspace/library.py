"""The models that a workspace can use, by name, and where each comes from."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError, NotFoundError, SosieError, UsageError, nearest
from sosie.files.digest import asset_digest
from sosie.files.regular import is_there
from sosie.files.suffixes import SUFFIXES
from sosie.workspace.origin import read_origin
from sosie.workspace.workspace import Workspace

FOLDER_MARKS = ("model_index.json", "config.json")
"""A folder that holds one of these is one model, not a folder of models."""

MAX_ENTRIES = 100_000
"""Most files that are looked at below one folder of models."""


@dataclass(frozen=True)
class InstalledModel:
    """A model by name. `locate` gives its file or folder (an embedded one is unpacked then).

    `source` is `sosie.toml`, `models/` or the package that brings it; `licence` is empty when
    nobody said; `cohort` is the file of impostors that comes with it, `attributes` the classifier of what
    its pictures show, if there are such.
    """

    name: str
    source: str
    locate: Callable[[], Path]
    licence: str = ""
    summary: str = ""
    cohort: Path | None = None
    attributes: Path | None = None


class Library:
    """The models of a workspace. Its folders are walked once, at the first question that needs it.

    What is put into them afterwards is not seen: a library is for one command.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def _entries(self) -> tuple[tuple[Path, str, tuple[tuple[str, str], ...]], ...]:
        """Every folder of models with its title, and the models below it: folder and name."""
        return tuple((root, title, tuple(_entries(root))) for root, title in _roots(self._workspace))

    def installed(self) -> dict[str, InstalledModel]:
        """Every model by name: `sosie.toml` wins over the model folders, which win over packages.

        Of files that share a name, the one of the better ending counts; the others are found by their path.
        """
        models = _packaged()
        for _, source, entries in reversed(self._entries):
            best: dict[str, Path] = {}
            for path in (Path(*entry) for entry in entries):
                known = best.setdefault(_stem(path.name), path)
                if _rank(path) < _rank(known):
                    best[_stem(path.name)] = path
            models |= {name: _on_disk(name, source, path) for name, path in best.items()}
        for name, text in self._workspace.config.models.items():
            models[name] = InstalledModel(name, "sosie.toml", _there(self._workspace.path(text)))
        return models

    def model(self, name: str) -> InstalledModel:
        """The model of that name (with or without its ending) or at that path; the error names the nearest one.

        Model folders are looked through to the bottom. Raises `NotFoundError`, or `UsageError` if the name means
        several files of different content.
        """
        configured = self._workspace.config.models
        if name in configured:
            return InstalledModel(name, "sosie.toml", _there(self._workspace.path(configured[name])))
        if (path := self.in_folders(name)) is not None:
            return _on_disk(name, self._title(path), path)
        packaged = _packaged()
        if name in packaged:
            return packaged[name]
        path = self._workspace.path(name)
        if is_there(path):
            return InstalledModel(name, str(path), _there(path))
        entries = (entry for _, _, below in self._entries for _, entry in below)
        known = {*configured, *packaged, *map(_stem, entries)}
        raise NotFoundError(f"model '{name}' was not found{nearest(name, known)}", "sosie model list")

    def asset(self, name: str) -> tuple[Path, InstalledModel]:
        """The file or folder that a recipe means by `name` (a model, a path, or `MODEL:FILE` inside a model).

        With it, the model that it is or is part of. Raises `NotFoundError`, or `UsageError` if the name means
        several files of different content.
        """
        model, colon, file = name.partition(":")
        if not colon or name in self._workspace.config.models or is_there(self._workspace.path(name)):
            found = self.model(name)
            return found.locate(), found
        found = self.model(model)
        folder = found.locate()
        path = folder / file
        if folder.resolve() not in path.resolve().parents or not is_there(path):
            raise NotFoundError(f"'{file}' is not inside model '{model}' ({folder})", f"sosie model show {model}")
        return path, found

    def place(self, name: str) -> Path | None:
        """Where `sosie.toml` or a model folder has `name`; the file need not exist. None if neither names it."""
        configured = self._workspace.config.models
        model, colon, inside = name.partition(":")
        if named := configured.get(name):
            return self._workspace.path(named)
        if colon and (named := configured.get(model)):
            return self._workspace.path(named) / inside
        try:
            return self.in_folders(name)
        except SosieError:
            return None

    def in_folders(self, name: str) -> Path | None:
        """The model in the model folders that `name` means; `UsageError` if those are several that differ."""
        found = self.files(name)
        return one_of(found, name) if found else None

    def files(self, name: str) -> tuple[Path, ...]:
        """Every model in the model folders that `name` means: a file name, a name without ending, or a folder.

        Without an ending, only files of the best ending that is there; a folder's name only if no file has it.
        """
        if not name or "/" in name or "\\" in name:
            return ()
        stem = Path(name).suffix.lower() not in SUFFIXES
        found = [
            Path(place, entry)
            for _, _, entries in self._entries
            for place, entry in entries
            if entry == name or (stem and entry.startswith(name) and _stem(entry) == name)
        ]
        exact = [path for path in found if path.name == name]
        best = min(map(_rank, found), default=0)
        places = [root / name for root, _ in _roots(self._workspace)]
        folders = [place for place in places if is_there(place) and place.is_dir()]
        return tuple(exact or [path for path in found if _rank(path) == best] or folders[:1])

    def _title(self, path: Path) -> str:
        return next((title for root, title in _roots(self._workspace) if root in path.parents), str(path))


def installed_models(workspace: Workspace) -> dict[str, InstalledModel]:
    """As `Library.installed`."""
    return Library(workspace).installed()


def find_model(workspace: Workspace, name: str) -> InstalledModel:
    """As `Library.model`."""
    return Library(workspace).model(name)


def one_of(paths: Sequence[Path], name: str) -> Path:
    """The first of files that are the same; `UsageError` with all of them if they differ."""
    first = paths[0]
    others = [path for path in paths[1:] if not path.samefile(first)]
    if any(_differ(first, path) for path in others):
        places = ", ".join(map(str, paths))
        hint = "remove or rename all but one, or say which: a path in the recipe, or [models] in sosie.toml"
        raise UsageError(f"'{name}' means {len(paths)} files of different content: {places}", hint)
    return first


def models_below(root: Path) -> Iterator[Path]:
    """Every model file below a folder, and every folder that is one model; links are followed, hidden names not."""
    return (Path(*entry) for entry in _entries(root))


def _entries(root: Path) -> Iterator[tuple[str, str]]:
    """Every model file below a folder, and every folder that is one model; links are followed, hidden names not.

    Folder and name, as texts, since a library may hold thousands.
    """
    seen: set[tuple[int, int]] = set()
    count = 0
    for place, folders, files in os.walk(root, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(seen) > 1 and any(mark in files for mark in FOLDER_MARKS):
            folders.clear()
            yield os.path.split(place)
            continue
        for name in sorted(files):
            count += 1
            if count > MAX_ENTRIES:
                return
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield place, name


def _on_disk(name: str, source: str, path: Path) -> InstalledModel:
    """A model in a folder, with the licence under which it was fetched."""
    origin = read_origin(path)
    return InstalledModel(name, source, _there(path), origin.licence if origin else "")


def _packaged() -> dict[str, InstalledModel]:
    """The models that installed packages bring, by name."""
    models: dict[str, InstalledModel] = {}
    for entry in importlib.metadata.entry_points(group="sosie.models"):
        packaged: Any = entry.load()
        models[entry.name] = InstalledModel(
            entry.name,
            entry.value.split(":")[0],
            _unpacked(entry.name, packaged.folder),
            packaged.licence,
            packaged.summary,
            packaged.cohort,
            getattr(packaged, "attributes", None),
        )
    return models


def _roots(workspace: Workspace) -> tuple[tuple[Path, str], ...]:
    """The folders of models and how they are called; the workspace's own first."""
    own = ((workspace.models, "models/"),)
    return (*own, *((workspace.path(text), text) for text in workspace.config.model_folders))


def model_roots(workspace: Workspace) -> tuple[Path, ...]:
    """The folders in which models are looked for, the workspace's own first; they need not be there."""
    return tuple(root for root, _ in _roots(workspace))


def _stem(name: str) -> str:
    """A file's or folder's name without the ending of a model file."""
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending.lower()}" in SUFFIXES else name


def _rank(path: Path) -> int:
    return SUFFIXES.index(path.suffix.lower()) if path.suffix.lower() in SUFFIXES else len(SUFFIXES)


def _differ(one: Path, other: Path) -> bool:
    if one.is_file() and other.is_file() and one.stat().st_size != other.stat().st_size:
        return True
    return asset_digest(one) != asset_digest(other)


def _there(path: Path) -> Callable[[], Path]:
    def locate() -> Path:
        if not is_there(path):
            raise NotFoundError(f"the model file {path} does not exist", "sosie model list")
        return path

    return locate


def _unpacked(name: str, folder: Callable[[], Path]) -> Callable[[], Path]:
    """A package's own errors, which it raises with `message` and `hint`, as ours."""

    def locate() -> Path:
        try:
            return folder()
        except Exception as error:
            message = f"the embedded model '{name}' could not be unpacked: {getattr(error, 'message', error)}"
            raise BadModelError(message, getattr(error, "hint", f"install the package of '{name}' again")) from error

    return locate
