"""LoRAs: what a file is, and its exact conversion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import NotFoundError, UsageError
from sosie.doctor.loras import check_read_lora, covered, with_tables
from sosie.families import families
from sosie.lora import Coverage, Lora, Outcome, outcomes, read_lora
from sosie.lora.convert import Converted, convert
from sosie.lora.merging import Merged, merge_check
from sosie.workspace.library import find_asset
from sosie.workspace.workspace import Workspace


@dataclass(frozen=True)
class LoraReport:
    """A LoRA file, how it covers the base (None if neither base nor family is known), and findings."""

    lora: Lora
    coverage: Coverage | None
    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...]


def show_lora(
    workspace: Workspace, name: str, base: str | None = None, asked_for: str | None = None, trained_on: str = ""
) -> LoraReport:
    """What a LoRA is, by name or path. `base` is a family's name, a model's name or a path.

    Raises `NotFoundError`, and `BadModelError` for a broken file or one that is no LoRA.
    """
    path = find_asset(workspace, name)
    lora = read_lora(path, families(), trained_on)
    against = _base(workspace, base)
    findings = check_read_lora(lora, against, asked_for)
    return LoraReport(lora, covered(lora, against), outcomes(lora), tuple(findings))


def convert_lora(workspace: Workspace, name: str, out: Path, to: str, overwrite: bool = False) -> Converted:
    """Writes a LoRA in another layout, exactly, to `out`, as seen from the current folder.

    What it raises and refuses: see `sosie.lora.convert`.
    """
    if not out.parent.is_dir():
        raise UsageError(f"the folder {out.parent} does not exist", f"mkdir -p {out.parent}")
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} does not end in .safetensors", f"{out.with_suffix('.safetensors')}")
    return convert(read_lora(find_asset(workspace, name), families()), out, to, overwrite)


def check_merge(workspace: Workspace, one: Lora, other: Path, base: str) -> Merged:
    """Merges two LoRAs into real weights of a base and compares them."""
    return merge_check(one, read_lora(other, families()), find_asset(workspace, base))


def _base(workspace: Workspace, base: str | None) -> Path | str | None:
    """The name of a family with a table as it is, anything else as the file or folder of a model."""
    if base is None or base in [family.name for family in with_tables()]:
        return base
    try:
        return find_asset(workspace, base)
    except NotFoundError:
        if base in [family.name for family in families()]:
            return base
        raise
