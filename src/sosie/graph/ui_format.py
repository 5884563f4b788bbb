"""The UI format: what ComfyUI's editor saves. It is unfolded to what the editor would send to be executed.

Notes vanish; reroutes and bypassed nodes are bridged, primitives become values, muted nodes are left out with
their links; subgraphs and group nodes are unfolded. A bypassed node passes on its input of the same place if it
has the output's type, otherwise its first input of that type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sosie.core.errors import BadModelError
from sosie.files.foreign import as_object, as_objects
from sosie.graph.graph import MAX_NODES, Graph, Link, Node, Value
from sosie.graph.group_nodes import group_name, groups, read_group
from sosie.graph.nodes import node_type
from sosie.graph.notation import Input, NodeType
from sosie.graph.ui_parts import BYPASSED, INPUTS, NEVER, Definition, Drawn, Slot, read_definition

MAX_DEPTH = 32
"""Deepest nesting of subgraphs."""

NOTES = ("Note", "MarkdownNote")
VIRTUAL = (*NOTES, "Reroute", "PrimitiveNode", "SetNode", "GetNode")
"""Nodes of the editor that are never executed; the last two are KJNodes' named wires."""

CONTROLS = ("fixed", "increment", "decrement", "randomize")
"""What the editor writes after a seed: how it changes after a run."""


@dataclass(frozen=True)
class Constant:
    """A value that a wire carries."""

    value: Value


@dataclass(frozen=True, eq=False)
class Scope:
    """A definition in use: the ids of its nodes begin with `prefix`.

    `above` is where its instance stands. `given` are values for its own inputs, `overrides` for widgets of nodes
    inside, by (node, widget).
    """

    definition: Definition
    prefix: str = ""
    above: tuple[Scope, Drawn] | None = None
    given: Mapping[str, Value] = field(default_factory=dict[str, Any])
    overrides: Mapping[tuple[str, str], Value] = field(default_factory=dict[tuple[str, str], Any])
    chain: tuple[str, ...] = ()


def is_ui(table: dict[str, Any]) -> bool:
    """Whether it looks like this format: a list of nodes, each with a type."""
    nodes = as_objects(table.get("nodes"))
    return bool(nodes) and all("type" in node for node in nodes)


def from_ui(table: dict[str, Any], where: str) -> Graph:
    """The graph; `where` names the file in errors.

    Raises `BadModelError` for a node without id or class, and for subgraphs that hold themselves or unfold to more
    than `MAX_NODES` nodes.
    """
    subgraphs = as_objects(as_object(table.get("definitions")).get("subgraphs"))
    known = {str(entry.get("id")): read_definition(entry, where) for entry in subgraphs}
    known |= {f"workflow>{name}": read_group(group, where) for name, group in groups(table.get("extra")).items()}
    unfolding = _Unfolding(known, where)
    unfolding.unfold(Scope(read_definition(table, where)))
    return Graph(MappingProxyType(unfolding.nodes), tuple(unfolding.problems))


class _Unfolding:
    """The nodes that were found so far, and the scopes of the instances by prefix."""

    def __init__(self, definitions: Mapping[str, Definition], where: str) -> None:
        self.nodes: dict[str, Node] = {}
        self.problems: list[str] = []
        self._definitions = definitions
        self._scopes: dict[str, Scope] = {}
        self._where = where

    def unfold(self, scope: Scope) -> None:
        """Adds every node of a scope that would run."""
        for drawn in scope.definition.nodes.values():
            if drawn.kind in VIRTUAL or drawn.mode in (NEVER, BYPASSED):
                continue
            if (inside := self._inside(scope, drawn)) is not None:
                self.unfold(inside)
                continue
            if len(self.nodes) >= MAX_NODES:
                raise BadModelError(f"{self._where} unfolds to more than {MAX_NODES:,} nodes")
            self.nodes[scope.prefix + drawn.id] = self._node(scope, drawn)

    def _inside(self, scope: Scope, drawn: Drawn) -> Scope | None:
        """The scope of a subgraph's instance; None for any other node."""
        name = f"workflow>{group_name(drawn.kind)}" if group_name(drawn.kind) else drawn.kind
        definition = self._definitions.get(name)
        if definition is None:
            return None
        prefix = f"{scope.prefix}{drawn.id}:"
        if prefix not in self._scopes:
            if name in scope.chain or len(scope.chain) >= MAX_DEPTH:
                raise BadModelError(f"{self._where}: the subgraph of node {prefix[:40]} holds itself, or is too deep")
            if len(self._scopes) >= MAX_NODES:
                raise BadModelError(f"{self._where} unfolds to more than {MAX_NODES:,} subgraphs")
            given, overrides = _promoted(definition, drawn)
            given |= {widget: value for (node, widget), value in scope.overrides.items() if node == drawn.id}
            chain = (*scope.chain, name)
            self._scopes[prefix] = Scope(definition, prefix, (scope, drawn), given, overrides, chain)
        return self._scopes[prefix]

    def _node(self, scope: Scope, drawn: Drawn) -> Node:
        kind = node_type(drawn.kind)
        name = scope.prefix + drawn.id
        inputs, unread = _named(kind, drawn.values)
        inputs |= {widget: value for (node, widget), value in scope.overrides.items() if node == drawn.id}
        if kind is not None:
            inputs = {key: value for key, value in inputs.items() if kind.input(key)}
            inputs = {w.name: w.fallback for w in kind.widgets if w.required and w.fallback is not None} | inputs
        for slot in drawn.inputs:
            found = self._source(scope, drawn, slot)
            if found is not None:
                inputs[slot.widget or slot.name] = found.value if isinstance(found, Constant) else found
        return Node(name, drawn.kind, MappingProxyType(inputs), drawn.title, unread)

    def _source(self, scope: Scope, drawn: Drawn, slot: Slot) -> Link | Constant | None:
        """What feeds an input: an output of a node that runs, a value, or nothing."""
        seen: set[tuple[str, str, int]] = set()
        start = f"{drawn.kind} {scope.prefix}{drawn.id}: the link of '{slot.name}' leads nowhere"
        while slot.link:
            wire = scope.definition.wires.get(slot.link)
            place = (scope.prefix, wire.origin, wire.slot) if wire else ("", "", 0)
            if wire is None or place in seen:
                self.problems.append(start[:120])
                return None
            seen.add(place)
            found = self._follow(scope, wire.origin, wire.slot)
            if not isinstance(found, tuple):
                return found
            scope, slot = found
        return None

    def _follow(self, scope: Scope, origin: str, index: int) -> Link | Constant | tuple[Scope, Slot] | None:
        """What an output is: a node's, a value, nothing, or what feeds an input further up."""
        while True:
            if origin == INPUTS and scope.above is not None:
                name = scope.definition.inputs[index] if 0 <= index < len(scope.definition.inputs) else ""
                above, instance = scope.above
                slot = _outer(instance, name, index)
                if slot is not None and slot.link:
                    return above, slot
                return Constant(scope.given[name]) if name in scope.given else None
            node = scope.definition.nodes.get(origin)
            if node is None:
                self.problems.append(f"a link begins at node {scope.prefix}{origin}, which is not there"[:120])
                return None
            if node.mode == NEVER:
                return None
            if node.mode == BYPASSED or node.kind in VIRTUAL:
                return _bridge(scope, node, index)
            inside = self._inside(scope, node)
            if inside is None:
                return Link(scope.prefix + node.id, index)
            wire = inside.definition.outputs.get(index)
            if wire is None:
                return None
            scope, origin, index = inside, wire.origin, wire.slot


def _bridge(scope: Scope, node: Drawn, index: int) -> Constant | tuple[Scope, Slot] | None:
    """What a node that is not executed passes on."""
    if node.kind == "PrimitiveNode":
        return Constant(node.values[0]) if isinstance(node.values, tuple) and node.values else None
    if node.kind == "GetNode":
        names = {n.values: n for n in scope.definition.nodes.values() if n.kind == "SetNode" and _hashable(n.values)}
        setter = names.get(node.values) if _hashable(node.values) else None
        return (scope, setter.inputs[0]) if setter and setter.inputs else None
    if node.kind in ("Reroute", "SetNode"):
        return (scope, node.inputs[0]) if node.inputs else None
    wanted = node.outputs[index].type if 0 <= index < len(node.outputs) else ""
    same = [slot for slot in node.inputs[index : index + 1] if slot.type == wanted]
    slots = same or [slot for slot in node.inputs if slot.type == wanted]
    return (scope, slots[0]) if slots else None


def _hashable(values: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) for value in values)  # pyright: ignore


def _outer(instance: Drawn, name: str, index: int) -> Slot | None:
    """The instance's input that stands for an input of its inside: by place and name, by name, or by place."""
    place = instance.inputs[index] if index < len(instance.inputs) else None
    if place is not None and place.name == name:
        return place
    named = next((slot for slot in instance.inputs if slot.name == name), None)
    return named or (place if group_name(instance.kind) else None)


def _promoted(definition: Definition, instance: Drawn) -> tuple[dict[str, Value], dict[tuple[str, str], Value]]:
    """The values that an instance's widgets hold: for inputs of its inside, and for widgets of nodes inside."""
    if not isinstance(instance.values, tuple):
        return dict(instance.values), {}
    if instance.proxies is not None:
        pairs = [(p, v) for p, v in zip(instance.proxies, instance.values, strict=False) if v is not None]
        given = {widget: value for (node, widget), value in pairs if node == "-1"}
        return given, {proxy: value for proxy, value in pairs if proxy[0] != "-1"}
    if group_name(instance.kind):
        return {}, _of_group(definition, instance.values)
    # Without a list of proxies the widgets are those inputs that lead to one.
    if len(definition.widgets) == len(instance.values):
        return dict(zip(definition.widgets, instance.values, strict=True)), {}
    return {}, {}


def _of_group(definition: Definition, values: tuple[Value, ...]) -> dict[tuple[str, str], Value]:
    """A group's values are those of its nodes, one after another."""
    found: dict[tuple[str, str], Value] = {}
    for node in definition.nodes.values():
        count = len(node.values)
        named, _ = _named(node_type(node.kind), values[:count])
        found |= {(node.id, name): value for name, value in named.items()}
        values = values[count:]
    return {} if values else found


def _named(
    kind: NodeType | None, values: tuple[Value, ...] | Mapping[str, Value]
) -> tuple[dict[str, Value], tuple[Value, ...]]:
    """Values by their widgets' names, and those that no widget of the class is left for."""
    if isinstance(values, Mapping):
        return dict(values), ()
    named: dict[str, Value] = {}
    at = 0
    for widget in kind.widgets if kind else ():
        if at >= len(values):
            break
        named[widget.name] = values[at]
        at += 1
        if at < len(values) and _belongs(widget, values[at]):
            at += 1
    return named, values[at:]


def _belongs(widget: Input, follows: Value) -> bool:
    """Whether a value is no widget's of its own: how a seed changes, or the button that uploads an image."""
    if widget.type in ("INT", "SEED"):
        return isinstance(follows, str) and follows in CONTROLS
    return widget.type == "IMAGE_FILE" and follows == "image"
