"""LoRAs: what a file is, its exact conversion, and giving one to a character.

A character's LoRA is copied into its folder; its terms go into `character.toml`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sosie.core import CharacterLora, Finding
from sosie.core.errors import DeliveryError, NotFoundError, UsageError
from sosie.core.finding import Rule
from sosie.doctor.loras import check_lora, check_read_lora, covered, with_tables
from sosie.families import families
from sosie.files.digest import asset_digest
from sosie.files.toml import load_toml
from sosie.files.whole import change_text, copy_whole, make_folder
from sosie.lora import Coverage, Lora, Outcome, outcomes, read_lora
from sosie.lora.convert import Converted, convert
from sosie.lora.merging import Merged, merge_check
from sosie.workspace.bill import resolve_one
from sosie.workspace.characters import CharacterFile, LoraEntry, load_character, with_lora
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import writing

L023 = Rule("SOS-L023", "warning", "A character's LoRA has no trigger word")

MAX_WEIGHT = 4.0


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
    path = resolve_one(workspace, name).located
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
    return convert(read_lora(resolve_one(workspace, name).located, families()), out, to, overwrite)


def check_merge(workspace: Workspace, one: Lora, other: Path, base: str) -> Merged:
    """Merges two LoRAs into real weights of a base and compares them."""
    return merge_check(one, read_lora(other, families()), resolve_one(workspace, base).located)


@dataclass(frozen=True)
class LoraTerms:
    """How a LoRA is to be used; empty texts leave it to its metadata. See `core.CharacterLora`."""

    weight: float = 1.0
    trigger: str = ""
    trained_on: str = ""
    model: str = ""


@dataclass(frozen=True)
class AddedLora:
    """A character's new LoRA and what the doctor says of the file."""

    character: str
    lora: CharacterLora
    path: Path
    findings: tuple[Finding, ...]


def add_lora(workspace: Workspace, name: str, file: str, terms: LoraTerms) -> AddedLora:
    """Copies the LoRA `file` to character `name` and writes its entry.

    The trigger is the one given, else the one in the metadata, else the character's. Raises
    `BadModelError` for a file that is no LoRA, `UsageError` if its family is unknown, the weight is
    out of range or another LoRA has that file name.
    """
    if not (math.isfinite(terms.weight) and abs(terms.weight) <= MAX_WEIGHT):
        raise UsageError(f"--weight {terms.weight} is out of range: -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    character = load_character(workspace, name)
    source = resolve_one(workspace, file).located
    lora = read_lora(source, families(), terms.trained_on)
    if not lora.family:
        raise UsageError(
            f"{source} is a LoRA for an unknown model: {lora.because}; expected one for a family that Sosie runs",
            f"sosie lora show {file}",
        )
    if lora.variant == "reduced" and not terms.model:
        raise UsageError(
            f"{source} is for a smaller model of family '{lora.family}'; expected the name of that model",
            f"sosie lora add {name} {file} --model mini",
        )
    entry = LoraEntry(
        f"loras/{source.name}",
        lora.family,
        terms.weight,
        terms.trigger or next(iter(lora.training.triggers), "") or character.trigger,
        terms.trained_on or ("" if lora.trained_on == "unknown" else lora.trained_on),
        terms.model,
    )
    with writing(workspace, name) as folder:
        _write(folder, source, entry)
    kept = next(own for own in load_character(workspace, name).loras if own.file == entry.file)
    findings = tuple(check_lora(folder / entry.file, None, None, terms.trained_on))
    return AddedLora(name, kept, folder / entry.file, (*findings, *_silent(name, kept)))


def _silent(name: str, lora: CharacterLora) -> tuple[Finding, ...]:
    if lora.trigger:
        return ()
    message = f"LoRA '{lora.file}' of '{name}' has no trigger word, so no prompt will say one"
    return (L023.at(name, message, f"sosie lora add {name} {lora.file} --trigger WORD"),)


def _write(folder: Path, source: Path, entry: LoraEntry) -> None:
    """The file first, then its entry: a kill between them leaves a file that nothing names."""
    target, toml = folder / entry.file, folder / "character.toml"
    known = load_toml(CharacterFile, toml).loras
    same = next((old for old in known if old.file == entry.file), None)
    if target.exists() and asset_digest(target) != asset_digest(source):
        raise UsageError(f"another LoRA of that name is in {target}", "rename the file, or delete the old one first")
    if same is not None and same != entry:
        raise UsageError(
            f"'{entry.file}' is in {toml} already with other terms (weight {same.weight:g}, trigger '{same.trigger}')",
            f"edit [[loras]] in {toml}",
        )
    try:
        make_folder(target.parent)
        if not target.exists():
            copy_whole(source, target)
        if same is None:
            change_text(toml, lambda text: with_lora(text, entry, toml))
    except OSError as error:
        raise DeliveryError(f"{target} could not be written: {error.strerror}", "free some space") from None


def _base(workspace: Workspace, base: str | None) -> Path | str | None:
    """The name of a family with a table as it is, anything else as the file or folder of a model."""
    if base is None or base in [family.name for family in with_tables()]:
        return base
    try:
        return resolve_one(workspace, base).located
    except NotFoundError:
        if base in [family.name for family in families()]:
            return base
        raise
