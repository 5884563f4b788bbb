"""The models that a workspace can use, by name, and where each comes from."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.core.errors import BadModelError, NotFoundError, nearest
from sosie.core.workspace import Workspace

SUFFIXES = ("", ".safetensors", ".onnx")


@dataclass(frozen=True)
class InstalledModel:
    """A model by name. `locate` gives its file or folder (an embedded one is unpacked then).

    `source` is `sosie.toml`, `models/` or the package that brings it; `licence` is empty when
    nobody said; `cohort` is the file of impostors that comes with it, if one does.
    """

    name: str
    source: str
    locate: Callable[[], Path]
    licence: str = ""
    summary: str = ""
    cohort: Path | None = None


def installed_models(workspace: Workspace) -> dict[str, InstalledModel]:
    """Every model by name: `sosie.toml` wins over `models/`, which wins over packages."""
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
        )
    if workspace.models.is_dir():
        for path in sorted(workspace.models.iterdir()):
            if path.suffix in SUFFIXES or path.is_dir():
                name = path.stem if path.is_file() else path.name
                models[name] = InstalledModel(name, "models/", _there(path))
    for name, text in workspace.config.models.items():
        models[name] = InstalledModel(name, "sosie.toml", _there(workspace.path(text)))
    return models


def find_model(workspace: Workspace, name: str) -> InstalledModel:
    """The model of that name, or at that path; the error names the nearest one."""
    models = installed_models(workspace)
    if name in models:
        return models[name]
    path = workspace.path(name)
    if path.exists():
        return InstalledModel(name, str(path), _there(path))
    raise NotFoundError(f"model '{name}' was not found{nearest(name, models)}", "sosie model list")


def find_asset(workspace: Workspace, name: str) -> Path:
    """The file that a recipe means by `name`: a model, a path, or `MODEL:FILE` inside a model."""
    model, colon, file = name.partition(":")
    if not colon or workspace.path(name).exists():
        return find_model(workspace, name).locate()
    folder = find_model(workspace, model).locate()
    path = folder / file
    if folder.resolve() not in path.resolve().parents or not path.is_file():
        raise NotFoundError(f"'{file}' is not a file inside model '{model}' ({folder})", f"sosie model show {model}")
    return path


def _there(path: Path) -> Callable[[], Path]:
    def locate() -> Path:
        if not path.exists():
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
