"""Characters as they are shown: who they are, what belongs to them, and what became of their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sosie.core import CharacterLora
from sosie.core.errors import NotFoundError, SosieError
from sosie.core.schema import to_table
from sosie.store import Store
from sosie.store.record import Record
from sosie.workspace.characters import load_character
from sosie.workspace.workspace import Workspace


def list_characters(workspace: Workspace) -> list[dict[str, Any]]:
    """Every character by name; one that cannot be read says why."""
    found: list[dict[str, Any]] = []
    for path in sorted(workspace.characters.glob("*/character.toml")):
        name = path.parent.name
        try:
            character = load_character(workspace, name)
        except (SosieError, OSError) as error:
            found.append({"name": name, "error": str(error), "references": []})
            continue
        references = [reference.sha256 for reference in character.references]
        line = {"description": character.description, "references": references, "loras": len(character.loras)}
        found.append({"name": name, "error": "", **line})
    return found


def describe_character(workspace: Workspace, name: str) -> dict[str, Any]:
    """A character with its LoRAs, calibrations, and how many of its images were kept. Raises `SosieError`."""
    character = load_character(workspace, name)
    Store.open(workspace.state).close()
    with Record(workspace.state) as record:
        kept = record.kept(name)
    folder = workspace.character_folder(name) / "calibration"
    return {
        "name": character.name,
        "likeness": character.likeness,
        "adult": character.adult,
        "description": character.description,
        "trigger": character.trigger,
        "marks": list(character.marks),
        "recipe": character.recipe,
        "references": [one.sha256 for one in character.references],
        "loras": [{**to_table(lora), **_coverage(workspace, name, lora)} for lora in character.loras],
        "calibrations": sorted(path.stem for path in folder.glob("*.npz")),
        "made": [{"recipe": recipe, "kept": good, "judged": judged} for recipe, good, judged in kept],
    }


def _coverage(workspace: Workspace, name: str, lora: CharacterLora) -> dict[str, Any]:
    """How much of a LoRA its family's model has; None, and why, where that cannot be said."""
    from sosie.api.loras import show_lora

    path = workspace.character_folder(name) / lora.file
    try:
        found = show_lora(workspace, str(path.absolute()), lora.model or lora.family).coverage
    except (SosieError, OSError) as error:
        return {"matched": None, "total": None, "why": str(error)}
    if found is None:
        return {"matched": None, "total": None, "why": f"family '{lora.family}' is not known"}
    return {"matched": found.matched, "total": found.total, "why": ""}


def reference_path(workspace: Workspace, name: str, sha256: str) -> Path:
    """Where the reference of that digest lies. Raises `NotFoundError`."""
    character = load_character(workspace, name)
    for reference in character.references:
        if reference.sha256 == sha256:
            return workspace.character_folder(name) / reference.file
    raise NotFoundError(f"character '{name}' has no reference {sha256[:12]}")
