"""The schema of ComfyUI's nodes: what a class of nodes takes and gives, and the short form it is written in.

    KSampler -> LATENT
      model MODEL, seed SEED, steps INT 20 1:10000, sampler_name SAMPLER, device COMBO default default|cpu

The first line names the class and its outputs; `!` before the name marks a node that ends a graph
(saves or shows something), `+` one that takes inputs of any name besides. Each input is
`name TYPE [default] [low:high] [choice|choice...] [+mark...]`, a name with `?` is optional. Inputs that hold a value
(a widget) are of the types of `WIDGETS`, unless they are marked `+link`; all others are links. The order of the widgets
is that of their values in the UI format. The word after `FILE` names the folder of `models/` in which the file is
looked for. In defaults and choices `%20` is a blank, as in an URL.

An input `format.depth@exr|hdr` is there while `format` holds one of these choices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

WIDGETS = (
    *("INT", "SEED", "FLOAT", "STRING", "BOOLEAN", "COMBO", "SAMPLER_NAME", "SCHEDULER_NAME", "FILE", "IMAGE_FILE"),
    *(
        "COLOR",
        "CURVE",
        "BOUNDING_BOX",
        "BOUNDING_BOXES",
        "COLORS",
        "IMAGECOMPARE",
        "COMPOSITOR",
        "PAINTER",
        "MARKDOWN",
    ),
    *("WEBCAM", "LOAD_3D", "AUDIO_RECORD", "TEXTAREA", "RANGE", "CHART", "GALLERIA", "VIDEO_EDIT"),
)
"""Types whose inputs are widgets. `SEED` is a whole number that is followed by how it changes after a run."""

CONTROL, DYNAMIC, LINK = "+control", "+dynamic", "+link"
"""Marks: the editor changes it after a run; it draws its `{a|b}` when it sends it; it is a link for all its type."""

BOUNDS = re.compile(r"(-?[\d.]+(?:e[+-]?\d+)?):(-?[\d.]+(?:e[+-]?\d+)?)")

SEEDS = ("seed", "noise_seed")

MAX_SEED = 2**64 - 1

CORE = "core"
"""The pack of ComfyUI's own nodes."""


@dataclass(frozen=True)
class Input:
    """An input of a class of nodes.

    `type` is one of `WIDGETS`, or what a link carries (`MODEL`, `IMAGE,MASK` for either, `*` for anything). `low` and
    `high` bound a number (None: no bound), `choices` are the values of a COMBO (None: as the server has them).
    `folder` is where a `FILE` is looked for, below ComfyUI's `models/` (empty: not known). `only` are the choices of
    the input that its name begins with that bring it (none: it is always there).
    """

    name: str
    type: str
    required: bool = True
    default: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    folder: str = ""
    only: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()

    @property
    def is_widget(self) -> bool:
        """Whether it holds a value that is edited in the node."""
        return self.type in WIDGETS and LINK not in self.marks

    @property
    def is_seed(self) -> bool:
        """Whether it is what noise is drawn from."""
        return self.type == "SEED" or (self.type == "INT" and self.name.rpartition(".")[2] in SEEDS)

    @property
    def is_controlled(self) -> bool:
        """Whether the editor writes after it how it changes after a run."""
        return self.type == "SEED" or CONTROL in self.marks

    @property
    def is_dynamic(self) -> bool:
        """Whether the editor draws its `{a|b}` and takes its comments out when it sends the graph."""
        return DYNAMIC in self.marks

    @property
    def parent(self) -> str:
        """The input whose choice brings it; empty for one that is always there."""
        return self.name.rpartition(".")[0] if self.only else ""

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

    `ends` says that it saves or shows something: ComfyUI runs only what such nodes need. `is_open`: it takes inputs of
    names that its description does not tell.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    pack: str
    ends: bool = False
    is_open: bool = False

    @cached_property
    def _by_name(self) -> Mapping[str, Input]:
        return {entry.name: entry for entry in reversed(self.inputs)}

    def input(self, name: str) -> Input | None:
        """The input of that name, if there is one."""
        return self._by_name.get(name)

    def takes(self, given: Mapping[str, Any]) -> Iterator[Input]:
        """Its inputs in order, of those that a choice brings only what the choices in `given` do."""
        return _reached(self.inputs, lambda entry: given.get(entry.name, entry.fallback))

    @property
    def widgets(self) -> tuple[Input, ...]:
        """The inputs that hold values, in the order in which the UI format lists them."""
        return tuple(entry for entry in self.inputs if entry.is_widget)

    @property
    def files(self) -> tuple[Input, ...]:
        """The inputs that name model files."""
        return tuple(entry for entry in self.inputs if entry.type == "FILE")


Kinds = Callable[[str], NodeType | None]
"""A class by its name, as somebody describes it."""


def _reached(inputs: Iterable[Input], choice: Callable[[Input], Any]) -> Iterator[Input]:
    """The inputs that are there; `choice` is asked for the value of each before those that it may bring.

    What a choice brings follows its input: one whose input is not there is not there either.
    """
    chosen: dict[str, str | None] = {}
    for entry in inputs:
        there = not entry.only or chosen.get(entry.parent) in entry.only
        if there:
            yield entry
        chosen[entry.name] = str(choice(entry)) if there else None


def fits(given: str, taken: str) -> bool:
    """Whether what an output carries may go into an input: `*` is anything, a comma separates alternatives."""
    one, other = set(given.lower().split(",")), set(taken.lower().split(","))
    return bool(one & other) or bool({"*", ""} & (one | other))


def carried(entry: Input) -> str:
    """What a wire into an input carries; choices and names of files take anything."""
    named = {"SEED": "INT", "INT": "INT", "FLOAT": "FLOAT", "STRING": "STRING", "BOOLEAN": "BOOLEAN"}
    return named.get(entry.type, "*") if entry.type in WIDGETS else entry.type


def read_notation(text: str, pack: str) -> Iterable[NodeType]:
    """The classes that a text in the short form describes. Raises `ValueError` for a text that is written wrong."""
    return (read_class(block, pack) for block in blocks(text))


def blocks(text: str) -> list[str]:
    """The classes of a text in the short form, each as it is written."""
    return re.split(r"\n(?=\S)", text.strip())


def class_name(block: str) -> str:
    """The name of the class that a block describes. Raises `ValueError` for one without outputs."""
    head = block.partition("\n")[0]
    name, arrow, _ = head.partition(" ->")
    if not arrow:
        raise ValueError(f"{head!r} has no arrow")
    return name.strip().lstrip("!+")


def read_class(block: str, pack: str) -> NodeType:
    """The class that a block describes. Raises `ValueError` for one that is written wrong."""
    head, _, body = block.partition("\n")
    name = class_name(block)
    marks = head[: head.index(name)]
    outputs = head.partition(" ->")[2]
    entries = (entry.strip() for entry in re.split(r",\s", body + " "))
    inputs = tuple(_input(entry) for entry in entries if entry)
    carried = tuple(part.strip() for part in outputs.split(", ") if part.strip())
    return NodeType(name, inputs, carried, pack, "!" in marks, "+" in marks)


def _input(text: str) -> Input:
    name, kind, *rest = text.split()
    name, _, only = name.partition("@")
    required, name = not name.endswith("?"), unquote(name.removesuffix("?"))
    marks = frozenset(word for word in rest if word in (CONTROL, DYNAMIC, LINK))
    rest = [word for word in rest if word not in marks]
    if kind == "FILE":
        return Input(name, kind, required, folder=rest[0], only=_choices(only) or (), marks=marks)
    bounds = next((word for word in rest if BOUNDS.fullmatch(word)), "")
    choices = next((word for word in rest if "|" in word), "")
    plain = [unquote(word) for word in rest if word not in (bounds, choices)]
    if len(plain) > 1:
        raise ValueError(f"input {text!r} has more than one default")
    if kind == "SEED":
        bounds, plain = bounds or f"0:{MAX_SEED}", plain or ["0"]
    number = float if kind == "FLOAT" else int
    low, _, high = bounds.partition(":")
    listed = _choices(choices)
    return Input(
        name,
        kind,
        required,
        plain[0] if plain else str(listed[0]) if listed else "",
        number(low) if low else None,
        number(high) if high else None,
        listed,
        only=_choices(only) or (),
        marks=marks,
    )


def _choices(text: str) -> tuple[str, ...] | None:
    return tuple(unquote(word) for word in text.split("|") if word) if text else None
