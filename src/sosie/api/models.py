"""Models: what is installed, and what a file is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sosie.core.errors import UsageError
from sosie.families import families
from sosie.files.model_file import Identification, Known, identify, identify_and_read
from sosie.files.safetensors import Header
from sosie.files.strip import strip
from sosie.workspace.known import fingerprint, remember
from sosie.workspace.library import InstalledModel, find_asset, installed_models
from sosie.workspace.workspace import Workspace


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


def add_variant(workspace: Workspace, name: str, variant: str) -> str:
    """Remembers that files with this model's fingerprint are `variant`; returns the fingerprint.

    Raises `UsageError` for a model whose header tells its variant already, or that is not known.
    """
    path = find_asset(workspace, name)
    answer, header = identify_and_read(path, families())
    if not isinstance(answer, Known) or header is None or not answer.model.fingerprint:
        raise UsageError(f"{path} has no variant to be told: {answer.message}", f"sosie model show {name}")
    digest = fingerprint(path, header, answer.model.fingerprint)
    remember(workspace.known_table, answer.model.family, digest, variant)
    return digest
