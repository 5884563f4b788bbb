"""The schema of ComfyUI's nodes: what a class of nodes takes and gives, and the short form it is written in.

    KSampler -> LATENT
      model MODEL, seed SEED, steps INT 20 1:10000, sampler_name SAMPLER, device COMBO default default|cpu

The first line names the class and its outputs; `!` before the name marks a node that ends a graph
(saves or shows something). Each input is `name TYPE [default] [low:high] [choice|choice...]`, a name with `?`
is optional. Inputs that hold a value (a widget) are of the types of `WIDGETS`; all others are links.
The order of the widgets is that of their values in the UI format. A path in capitals after `FILE` names
the folder of `models/` in which the file is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

WIDGETS = ("INT", "SEED", "FLOAT", "STRING", "BOOLEAN", "COMBO", "SAMPLER_NAME", "SCHEDULER_NAME", "FILE", "IMAGE_FILE")
"""Types whose inputs are widgets. `SEED` is a whole number that is followed by how it changes after a run."""

MAX_SEED = 2**64 - 1

CORE = "core"
"""The pack of ComfyUI's own nodes."""


@dataclass(frozen=True)
class Input:
    """An input of a class of nodes.

    `type` is one of `WIDGETS`, or what a link carries (`MODEL`, `*` for anything). `low` and `high`
    bound a number (None: no bound), `choices` are the values of a COMBO (none: as the server has them).
    `folder` is where a `FILE` is looked for, below ComfyUI's `models/`.
    """

    name: str
    type: str
    required: bool = True
    default: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    folder: str = ""

    @property
    def is_widget(self) -> bool:
        """Whether it holds a value that is edited in the node."""
        return self.type in WIDGETS

    @property
    def fallback(self) -> int | float | str | bool | None:
        """The default as a value of its type, or None if there is none."""
        if not self.default:
            return None
        if self.type in ("INT", "SEED"):
            return int(self.default)
        if self.type == "FLOAT":
            return float(self.default)
        return self.default == "true" if self.type == "BOOLEAN" else self.default


@dataclass(frozen=True)
class NodeType:
    """A class of nodes: its inputs in order, the types of its outputs, and the pack that brings it.

    `ends` says that it saves or shows something: ComfyUI runs only what such nodes need.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    pack: str
    ends: bool = False

    def input(self, name: str) -> Input | None:
        """The input of that name, if there is one."""
        return next((entry for entry in self.inputs if entry.name == name), None)

    @property
    def widgets(self) -> tuple[Input, ...]:
        """The inputs that hold values, in the order in which the UI format lists them."""
        return tuple(entry for entry in self.inputs if entry.is_widget)

    @property
    def files(self) -> tuple[Input, ...]:
        """The inputs that name model files."""
        return tuple(entry for entry in self.inputs if entry.type == "FILE")


def read_notation(text: str, pack: str) -> Iterable[NodeType]:
    """The classes that a text in the short form describes. Raises `ValueError` for a text that is written wrong."""
    for block in re.split(r"\n(?=\S)", text.strip()):
        head, _, body = block.partition("\n")
        name, arrow, outputs = head.partition(" -> ")
        if not arrow and "->" not in head:
            raise ValueError(f"{head!r} has no arrow")
        entries = (entry.strip() for entry in re.split(r",\s", body + " "))
        yield NodeType(
            name.strip().removesuffix(" ->").removeprefix("!"),
            tuple(_input(entry) for entry in entries if entry),
            tuple(part.strip() for part in outputs.split(",") if part.strip()),
            pack,
            name.startswith("!"),
        )


def _input(text: str) -> Input:
    name, kind, *rest = text.split()
    required, name = not name.endswith("?"), name.removesuffix("?")
    if kind == "FILE":
        return Input(name, kind, required, folder=rest[0])
    if kind == "SEED":
        return Input(name, kind, required, "0", 0, MAX_SEED)
    bounds = next((word for word in rest if re.fullmatch(r"-?[\d.]+:-?[\d.]+", word)), "")
    choices = next((word for word in rest if "|" in word), "")
    plain = [word for word in rest if word not in (bounds, choices)]
    if len(plain) > 1:
        raise ValueError(f"input {text!r} has more than one default")
    low, _, high = bounds.partition(":")
    return Input(
        name,
        kind,
        required,
        plain[0] if plain else "",
        float(low) if low else None,
        float(high) if high else None,
        tuple(filter(None, choices.split("|"))),
    )
