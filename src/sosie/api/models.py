"""Models: what is installed, and what a file is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sosie.core.workspace import Workspace
from sosie.families import families
from sosie.files.library import InstalledModel, find_asset, installed_models
from sosie.files.model_file import Identification, identify
from sosie.files.safetensors import Header
from sosie.files.strip import strip


def list_models(workspace: Workspace) -> Sequence[InstalledModel]:
    """Every model that the workspace can use, by name."""
    return [model for _, model in sorted(installed_models(workspace).items())]


def show_model(workspace: Workspace, name: str) -> tuple[Path, Identification]:
    """The file or folder of a model and what its header says; no weight is read."""
    path = find_asset(workspace, name)
    return path, identify(path, families())


def strip_model(workspace: Workspace, model: Path, out: Path) -> Header:
    """Writes a safetensors file's header, without its weights, to `out`; returns the header."""
    return strip(workspace.path(str(model)), out)
