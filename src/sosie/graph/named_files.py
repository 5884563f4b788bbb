"""The model files that a node names: by its class, in objects of packs, or anywhere in the values of an unknown one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sosie.files.foreign import as_text, list_or_none, object_or_none
from sosie.files.suffixes import SUFFIXES
from sosie.graph.graph import Link, Node

NO_FILES = frozenset(
    {
        *("None", "none", "[None]", "Baked VAE", "CHOOSE"),
        *("pixel_space", "taesd", "taesdxl", "taesd3", "taef1", "taef2", "taeqi2_1"),
    }
)
"""Values of loaders that mean no file of that name."""

LONGEST = 255
"""Most letters of a file's name; what is longer is a text."""

STRENGTHS = (
    *("strength_model", "lora_strength", "lora_model_strength", "model_weight", "model_str", "lora_wt", "strength"),
)
"""How packs call how much a LoRA acts on the model; the one of several has a number after it."""


@dataclass(frozen=True)
class NamedFile:
    """A file that a node names in an input, and the folder of `models/` that it means; empty: not known."""

    input: str
    name: str
    folder: str


def named_files(node: Node) -> Iterator[NamedFile]:
    """The files that a node would load. Names in a class that is not known are told by their endings."""
    kind = node.type if not node.unread else None
    for entry in kind.files if kind else ():
        value = node.inputs.get(entry.name)
        if isinstance(value, str) and value not in NO_FILES:
            yield NamedFile(entry.name, value, entry.folder)
    for name, value in node.inputs.items():
        table = object_or_none(value)
        lora = as_text(table.get("lora")) if table else ""
        if table is not None and table.get("on") is not False and lora and lora not in NO_FILES:
            yield NamedFile(name, lora, "loras")
        elif kind is None:
            yield from (NamedFile(name, text, "") for text in _file_names(value))
    if kind is None:
        yield from (NamedFile("", text, "") for value in node.unread for text in _file_names(value))


def lora_strength(node: Node, file: NamedFile, number: Callable[[Node, str], float | None]) -> float | None:
    """How much a LoRA of a node acts on the model; None where nothing tells. `number` reads an input of a node."""
    told = object_or_none(node.inputs.get(file.input))
    if told is not None:
        strength = told.get("strength")
        return float(strength) if isinstance(strength, int | float) else None
    digits = re.search(r"_\d+$", file.input)
    end = digits[0] if digits else ""
    if node.inputs.get(f"switch{end}") == "Off":
        return 0.0
    known = (name for name in (f"{strength}{end}" for strength in STRENGTHS) if name in node.inputs)
    return next((number(node, name) for name in known), None)


def _file_names(value: Any) -> Iterator[str]:
    """The texts in a value that are names of model files."""
    if isinstance(value, Link):
        return
    table, listed = object_or_none(value), list_or_none(value)
    for part in [*(table.values() if table else ()), *(listed or ())]:
        yield from _file_names(part) if not isinstance(part, dict | list) else ()
    if isinstance(value, str) and len(value) <= LONGEST and value.lower().endswith(SUFFIXES) and "\n" not in value:
        yield value
