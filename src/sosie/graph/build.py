"""Builds a graph node by node: hands out ids, fills in defaults, and keeps count of files and pictures.

What is added is checked against the schema, so that a name that is written wrong is found when the graph is
built and not by a server. The same node is never there twice: what was added before is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from sosie.files.suffixes import SUFFIXES
from sosie.graph.graph import Graph, Link, Node
from sosie.graph.nodes import node_type
from sosie.graph.notation import Input, NodeType


@dataclass(frozen=True)
class WantedFile:
    """A model file that a graph needs.

    `asset` is the recipe's name of it. `names` are what it may be called in ComfyUI's lists: the first is written
    into the graph, the others are known to be the same file. `role` is what it is, for people; `folder` is
    where it lies below ComfyUI's `models/`.
    """

    asset: str
    names: tuple[str, ...]
    role: str
    folder: str


@dataclass(frozen=True)
class GraphPicture:
    """An image that a node is given, by what it is (`source`, `mask`, `reference 1`); it is uploaded before a run."""

    what: str

    @property
    def file(self) -> str:
        """What stands in the graph until it is uploaded."""
        return f"sosie-{self.what.replace(' ', '-')}.png"


@dataclass(frozen=True)
class Place:
    """An input of a node."""

    node: str
    input: str


@dataclass(frozen=True)
class BuiltGraph:
    """A graph with its files and pictures by the places where they stand, and each node's group by its id."""

    graph: Graph
    files: Mapping[Place, WantedFile]
    pictures: Mapping[Place, GraphPicture]
    groups: Mapping[str, str]


class Builder:
    """A graph in the making. Ids are counted from `first`; `called` maps assets to their files' names, where known."""

    def __init__(self, first: int = 1, called: Mapping[str, str] | None = None) -> None:
        self._next = first
        self._called = called or {}
        self._nodes: dict[str, Node] = {}
        self._files: dict[Place, WantedFile] = {}
        self._pictures: dict[Place, GraphPicture] = {}
        self._groups: dict[str, str] = {}
        self._known: dict[Any, str] = {}
        self.group = ""
        """The group of the nodes that are added next."""

    def add(self, kind: str, title: str = "", /, **inputs: Any) -> tuple[Link, ...]:
        """Adds a node and returns its outputs, in the order of its class.

        An input is a `Link`, a `WantedFile`, a `GraphPicture` or a value; required values that are left out are the
        class's defaults. Raises `ValueError` for what the schema does not know or does not allow.
        """
        found = node_type(kind)
        if found is None:
            raise ValueError(f"class '{kind}' is not in the schema")
        files = {name: self._named(value) for name, value in inputs.items() if isinstance(value, WantedFile)}
        pictures = {name: value for name, value in inputs.items() if isinstance(value, GraphPicture)}
        plain = inputs | {n: f.names[0] for n, f in files.items()} | {n: p.file for n, p in pictures.items()}
        values = self._complete(found, plain)
        key = (kind, tuple(values.items()))
        if key not in self._known:
            name = self._known[key] = str(self._next)
            self._next += 1
            self._nodes[name] = Node(name, kind, MappingProxyType(values), title)
            self._files |= {Place(name, entry): file for entry, file in files.items()}
            self._pictures |= {Place(name, entry): picture for entry, picture in pictures.items()}
            self._groups[name] = self.group
        return tuple(Link(self._known[key], slot) for slot in range(len(found.outputs)))

    def built(self) -> BuiltGraph:
        """What was added so far."""
        graph = Graph(MappingProxyType(dict(self._nodes)))
        return BuiltGraph(graph, dict(self._files), dict(self._pictures), dict(self._groups))

    def _named(self, file: WantedFile) -> WantedFile:
        """The file under the name that it is known to have, which comes before those that it may have."""
        own = self._called.get(file.asset)
        return replace(file, names=tuple(dict.fromkeys((own, *file.names)))) if own else file

    def _complete(self, kind: NodeType, given: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := [name for name in given if kind.input(name) is None]:
            raise ValueError(f"{kind.name} has no input '{unknown[0]}'")
        values: dict[str, Any] = {}
        for entry in kind.takes(values):
            value = given.get(entry.name, entry.fallback if entry.required else None)
            if value is None and entry.required:
                raise ValueError(f"{kind.name}: input '{entry.name}' is missing")
            if value is not None:
                self._expect(kind, entry, value)
                values[entry.name] = value
        if left := [name for name in given if name not in values]:
            raise ValueError(f"{kind.name} has no input '{left[0]}' with these choices")
        return values

    def _expect(self, kind: NodeType, entry: Input, value: Any) -> None:
        """A link must carry what the input takes, a value must lie in its range."""
        where = f"{kind.name}: '{entry.name}' is {value!r}"
        if isinstance(value, Link):
            source = node_type(self._nodes[value.node].kind)
            gives = source.outputs[value.slot] if source else "*"
            if entry.type not in (gives, "*") and gives != "*":
                raise ValueError(f"{where}, which gives {gives}; it takes {entry.type}")
            return
        if not entry.is_widget:
            raise ValueError(f"{where}; it takes a link that carries {entry.type}")
        low, high = entry.low, entry.high
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValueError(f"{where}, out of {low} to {high}")
        if entry.choices and value not in entry.choices:
            raise ValueError(f"{where}, none of {', '.join(entry.choices)}")


def wanted(
    asset: str, role: str, folder: str, suffixes: tuple[str, ...] = (".safetensors",), same: tuple[str, ...] = ()
) -> WantedFile:
    """A file of a recipe as ComfyUI lists it.

    `suffixes` are the endings that it may have, the usual one first, where the recipe's name has none; `same`
    are names (with their ending) of files that are the same.
    """
    base = PurePosixPath(asset.rpartition(":")[2].replace("\\", "/")).name
    own = (base,) if base.endswith(SUFFIXES) else tuple(base + suffix for suffix in suffixes)
    return WantedFile(asset, tuple(dict.fromkeys((*own, *same))), role, folder)
