"""Models: what is installed, what a file is, and a pickled one as safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import UsageError
from sosie.doctor.pickles import K012, pickle_findings
from sosie.families import families
from sosie.files.model_file import Identification, Known, identify, identify_and_read
from sosie.files.pickles.convert import convert
from sosie.files.safetensors import Header
from sosie.files.strip import strip
from sosie.workspace.bill import resolve_one
from sosie.workspace.known import fingerprint, remember
from sosie.workspace.library import InstalledModel, installed_models
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import locked


@dataclass(frozen=True)
class Conversion:
    """What was converted: from where, to where, how many tensors, and what was remarkable."""

    path: Path
    out: Path
    tensors: int
    bytes: int
    findings: tuple[Finding, ...]


def list_models(workspace: Workspace) -> Sequence[InstalledModel]:
    """Every model that the workspace can use, by name."""
    return [model for _, model in sorted(installed_models(workspace).items())]


def show_model(workspace: Workspace, name: str) -> tuple[Path, Identification]:
    """The file or folder of a model and what its header says; no weight is read."""
    path = resolve_one(workspace, name).located
    return path, identify(path, families())


def strip_model(workspace: Workspace, model: Path, out: Path) -> Header:
    """Writes a safetensors file's header, without its weights, to `out`; returns the header."""
    return strip(workspace.path(str(model)), out)


def add_variant(workspace: Workspace, name: str, variant: str) -> str:
    """Remembers that files with this model's fingerprint are `variant`; returns the fingerprint.

    Raises `UsageError` for a model whose header tells its variant already, or that is not known.
    """
    path = resolve_one(workspace, name).located
    answer, header = identify_and_read(path, families())
    if not isinstance(answer, Known) or header is None or not answer.model.fingerprint:
        raise UsageError(f"{path} has no variant to be told: {answer.message}", f"sosie model show {name}")
    digest = fingerprint(path, header, answer.model.fingerprint)
    with locked(workspace, "known", str(workspace.known_table)):
        remember(workspace.known_table, answer.model.family, digest, variant)
    return digest


def convert_model(path: Path, out: Path | None = None) -> Conversion:
    """Writes `out`, by default `path` with the ending .safetensors; it appears whole or not at all.

    Raises `PickleError` if the file is refused, `UsageError`
    if `out` exists, `NotFoundError`, `MissingExtraError` where torch is not installed.
    """
    out = path.with_suffix(".safetensors") if out is None else out
    pickled = convert(path, out)
    # SOS-K012 says to convert it, which is done.
    findings = tuple(finding for finding in pickle_findings(pickled) if finding.code != K012.code)
    return Conversion(path, out, len(pickled.header.tensors), out.stat().st_size, findings)
