"""The parts of the UI format as they stand in the file: nodes, wires, and the definitions of subgraphs.

A definition is a graph of its own: the root, a subgraph, or a group node's. Links of the root are lists
`[id, node, output, node, input, type]`, those of subgraphs objects. The inside of a subgraph meets its outside
at the two ids -10 (its inputs) and -20 (its outputs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sosie.core.errors import BadModelError
from sosie.files.foreign import as_id, as_list, as_object, as_objects, as_text, list_or_none, object_or_none

INPUTS, OUTPUTS = "-10", "-20"

NEVER, BYPASSED = 2, 4
"""Values of a node's `mode`: muted and bypassed. Others mean that it runs."""

MAX_LINKS = 100_000


@dataclass(frozen=True)
class Slot:
    """A place for a wire: `link` is the wire's id (empty: none), `widget` the widget that it stands for, or empty."""

    name: str
    type: str
    link: str = ""
    widget: str = ""


@dataclass(frozen=True)
class Wire:
    """From output `slot` of the node `origin` to input `target_slot` of the node `target`."""

    origin: str
    slot: int
    target: str
    target_slot: int


@dataclass(frozen=True)
class Drawn:
    """A node as it is drawn. `values` are its widgets' (a list, or an object by name).

    `proxies` are what the widgets of a subgraph's instance stand for: (node, widget), the node -1 for an
    input of the subgraph; None where the file does not say. `properties` are what packs keep with a node.
    """

    id: str
    kind: str
    mode: int
    title: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    values: tuple[Any, ...] | Mapping[str, Any]
    proxies: tuple[tuple[str, str], ...] | None
    properties: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Definition:
    """A graph as it is drawn: its nodes and wires by id, and the names of its own inputs, in order.

    `title` is what a subgraph is called, `extra` what packs keep with the graph.
    """

    nodes: Mapping[str, Drawn]
    wires: Mapping[str, Wire]
    inputs: tuple[str, ...] = ()
    title: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def outputs(self) -> Mapping[int, Wire]:
        """The wires that end at its own outputs, by their number."""
        return {wire.target_slot: wire for wire in self.wires.values() if wire.target == OUTPUTS}

    @cached_property
    def widgets(self) -> tuple[str, ...]:
        """The names of its own inputs that stand for a widget of a node inside, in order."""
        return tuple(name for index, name in enumerate(self.inputs) if any(self.behind(index)))

    def behind(self, index: int) -> Iterator[tuple[Drawn, Slot]]:
        """The nodes inside whose widgets one of its own inputs stands for, each with that widget's place."""
        for wire in self._begin.get(index, ()):
            node = self.nodes.get(wire.target)
            inputs = node.inputs if node else ()
            if node and 0 <= wire.target_slot < len(inputs) and inputs[wire.target_slot].widget:
                yield node, inputs[wire.target_slot]

    @cached_property
    def _begin(self) -> Mapping[int, list[Wire]]:
        found: dict[int, list[Wire]] = {}
        for wire in self.wires.values():
            if wire.origin == INPUTS:
                found.setdefault(wire.slot, []).append(wire)
        return found


def read_definition(graph: dict[str, Any], where: str) -> Definition:
    """A graph or subgraph of the file. Raises `BadModelError` for a node without id or class, or one that is twice."""
    nodes: dict[str, Drawn] = {}
    for entry in as_objects(graph.get("nodes")):
        node = read_node(entry, where)
        if node.id in nodes:
            raise BadModelError(f"{where}: two nodes have the id {node.id[:40]}", "save it again in ComfyUI")
        nodes[node.id] = node
    entries = as_list(graph.get("links"))
    if len(entries) > MAX_LINKS:
        raise BadModelError(f"{where} has {len(entries):,} links; at most {MAX_LINKS:,} are read")
    wires = dict(wire for entry in entries if (wire := _wire(entry)) is not None)
    inputs = tuple(as_text(entry.get("name")) for entry in as_objects(graph.get("inputs")))
    return Definition(nodes, wires, inputs, as_text(graph.get("name")), as_object(graph.get("extra")))


def read_node(entry: dict[str, Any], where: str, name: str = "") -> Drawn:
    """A node of the file; `name` replaces its id. Raises `BadModelError` if it has no id or no class."""
    kind, mode = entry.get("type"), entry.get("mode", 0)
    name = name or as_id(entry.get("id"))
    if not name or not isinstance(kind, str) or not kind:
        raise BadModelError(f"{where}: a node has no id or no type ({str(entry)[:60]})", "save it again in ComfyUI")
    properties = as_object(entry.get("properties"))
    proxies = list_or_none(properties.get("proxyWidgets"))
    return Drawn(
        name,
        kind,
        mode if isinstance(mode, int) else 0,
        as_text(entry.get("title")),
        tuple(_slot(slot) for slot in as_objects(entry.get("inputs"))),
        tuple(_slot(slot) for slot in as_objects(entry.get("outputs"))),
        _values(entry.get("widgets_values")),
        None if proxies is None else _proxies(proxies),
        properties,
    )


def _values(values: Any) -> tuple[Any, ...] | Mapping[str, Any]:
    named = object_or_none(values)
    return tuple(as_list(values)) if named is None else named


def _slot(entry: dict[str, Any]) -> Slot:
    widget = as_text(as_object(entry.get("widget")).get("name"))
    return Slot(as_text(entry.get("name")), as_text(entry.get("type")), as_id(entry.get("link")), widget)


def _wire(entry: Any) -> tuple[str, Wire] | None:
    found = object_or_none(entry)
    if found is None:
        parts = as_list(entry)[:5]
    else:
        parts = [found.get(key) for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot")]
    if len(parts) < 5 or not isinstance(parts[2], int) or not isinstance(parts[4], int):
        return None
    return as_id(parts[0]), Wire(as_id(parts[1]), parts[2], as_id(parts[3]), parts[4])


def _proxies(entries: list[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((as_id(pair[0]), as_text(pair[1])) for pair in map(as_list, entries) if len(pair) >= 2)
