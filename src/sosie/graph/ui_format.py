"""The UI format: what ComfyUI's editor saves. It is unfolded to what the editor would send to be executed.

The editor's own rules (`graphToPrompt`, `ExecutableNodeDTO`, `SubgraphNode` of its version 1.43): notes vanish;
reroutes, named wires and bypassed nodes are bridged, primitives become values, muted nodes are left out with their
links; subgraphs and group nodes are unfolded, and what their instances hold wins over the values inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sosie.core.errors import BadModelError
from sosie.files.foreign import as_object, as_objects
from sosie.graph.editor_nodes import GETTERS, PRIMITIVE, SETTERS, VIRTUAL, bypassed, passed_on, wire_name
from sosie.graph.everywhere import connects_widgets, draw_everywhere
from sosie.graph.graph import MAX_NODES, Editing, Graph, Link, Node, Value
from sosie.graph.group_nodes import group_name, groups, read_group
from sosie.graph.nodes import node_type
from sosie.graph.notation import Kinds, NodeType
from sosie.graph.ui_parts import BYPASSED, INPUTS, NEVER, Definition, Drawn, Slot, read_definition
from sosie.graph.widget_values import complete, named_values

MAX_DEPTH = 32
"""Deepest nesting of subgraphs."""


@dataclass(frozen=True)
class Constant:
    """A value that a wire carries; `promoted`: it is that of a subgraph's instance, which the editor sends as it is."""

    value: Value
    promoted: bool = False


@dataclass(frozen=True)
class Place:
    """An input of a drawn node in a scope, and the type that is wanted of it: that of where the wire ends at last."""

    scope: Scope
    slot: Slot
    wanted: str


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


def from_ui(table: dict[str, Any], where: str, kinds: Kinds | None = None) -> Graph:
    """The graph; `where` names the file in errors, `kinds` describes classes that Sosie does not know.

    Raises `BadModelError` for a node without id or class, and for subgraphs that hold themselves or unfold to more
    than `MAX_NODES` nodes.
    """
    extra = as_object(table.get("extra"))
    subgraphs = as_objects(as_object(table.get("definitions")).get("subgraphs"))
    read = {str(entry.get("id")): read_definition(entry, where) for entry in subgraphs}
    read |= {f"workflow>{name}": read_group(group, where) for name, group in groups(extra).items()}
    old = connects_widgets(extra)
    drawn = {name: draw_everywhere(definition, old) for name, definition in read.items()}
    root = draw_everywhere(read_definition(table, where), old)
    unfolding = _Unfolding({name: one.definition for name, one in drawn.items()}, where, kinds)
    unfolding.unfold(Scope(root.definition))
    every = (root, *drawn.values())
    editing = Editing(
        _blueprint(root.definition, read),
        tuple(sender for one in every for sender in one.broadcasts),
        sum(one.drawn for one in every),
        frozenset(carried for one in every for carried in one.undrawn),
    )
    return Graph(MappingProxyType(unfolding.nodes), tuple(unfolding.problems), editing)


def _blueprint(root: Definition, definitions: Mapping[str, Definition]) -> str:
    """The name of the subgraph that a file offers: one instance of it, without wires, and nothing that would run."""
    nodes = [node for node in root.nodes.values() if node.kind not in VIRTUAL]
    alone = nodes[0] if len(nodes) == 1 and not root.wires else None
    offered = definitions.get(alone.kind) if alone else None
    return (offered.title or "a subgraph") if alone and offered and not group_name(alone.kind) else ""


class _Unfolding:
    """The nodes that were found so far, and the scopes of the instances by prefix."""

    def __init__(self, definitions: Mapping[str, Definition], where: str, kinds: Kinds | None) -> None:
        self.nodes: dict[str, Node] = {}
        self.problems: list[str] = []
        self._definitions = definitions
        self._scopes: dict[str, Scope] = {}
        self._where = where
        self._kinds = kinds

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
        kind, inputs, unread = self._values(scope, drawn)
        if kind is not None and not unread:
            inputs = complete(kind, {key: value for key, value in inputs.items() if kind.is_open or kind.input(key)})
        promoted: set[str] = set()
        for slot in drawn.inputs:
            found = self._source(scope, drawn, slot)
            if found is not None:
                name = slot.widget or slot.name
                inputs[name] = found.value if isinstance(found, Constant) else found
                promoted |= {name} if isinstance(found, Constant) and found.promoted else set()
        dynamic = (entry.name for entry in kind.inputs if entry.is_dynamic) if kind else ()
        return Node(
            scope.prefix + drawn.id,
            drawn.kind,
            MappingProxyType(inputs),
            drawn.title,
            unread,
            tuple(name for name in dynamic if name not in promoted),
            None if kind is node_type(drawn.kind) else kind,
            tuple(slot.type for slot in drawn.outputs),
        )

    def _values(self, scope: Scope, drawn: Drawn) -> tuple[NodeType | None, dict[str, Value], tuple[Value, ...]]:
        """The class of a node and what its widgets hold, with what its subgraph's instance says of them.

        A class that Sosie does not know, or not in the version that the file is of, is as others describe it.
        """
        kind = node_type(drawn.kind)
        inputs, unread = named_values(kind, drawn.values)
        if (kind is None or unread) and self._kinds is not None and (own := self._kinds(drawn.kind)) is not None:
            others, left = named_values(own, drawn.values)
            if kind is None or not left:
                kind, inputs, unread = own, others, left
        said = {key: value for (node, key), value in scope.overrides.items() if node == drawn.id}
        return kind, inputs | said, unread

    def _source(self, scope: Scope, drawn: Drawn, slot: Slot) -> Link | Constant | None:
        """What feeds an input: an output of a node that runs, a value, or nothing."""
        seen: set[tuple[str, str, int]] = set()
        label = f"{drawn.kind[:80]} {(scope.prefix + drawn.id)[:40]}"
        at = Place(scope, slot, slot.type)
        while at.slot.link:
            wire = at.scope.definition.wires.get(at.slot.link)
            place = (at.scope.prefix, wire.origin, wire.slot) if wire else ("", "", 0)
            if wire is None or place in seen:
                self.problems.append(f"{label}: the link of '{slot.name[:40]}' leads nowhere")
                return None
            seen.add(place)
            found = self._follow(at, wire.origin, wire.slot)
            if isinstance(found, str):
                self.problems.append(f"{label}: the link of '{slot.name[:40]}' {found}")
                return None
            if not isinstance(found, Place):
                return found
            at = found
        return None

    def _follow(self, at: Place, origin: str, index: int) -> Link | Constant | Place | str | None:
        """What an output is: a node's, a value, what feeds an input further up, nothing, or what is wrong with it."""
        scope = at.scope
        while True:
            if origin == INPUTS and scope.above is not None:
                return self._outside(scope, *scope.above, index)
            node = scope.definition.nodes.get(origin)
            if node is None:
                return f"begins at node {(scope.prefix + origin)[:40]}, which is not there"
            if node.kind in VIRTUAL:
                # Whatever its mode: a muted reroute is a wire all the same.
                return _bridge(scope, node, index, at.wanted)
            if node.mode == NEVER:
                return None
            if node.mode == BYPASSED:
                slot = bypassed(node, index, at.wanted)
                return Place(scope, slot, slot.type) if slot else None
            inside = self._inside(scope, node)
            if inside is None:
                return Link(scope.prefix + node.id, index)
            wire = inside.definition.outputs.get(index)
            if wire is None:
                return None
            scope, origin, index = inside, wire.origin, wire.slot

    def _outside(self, scope: Scope, above: Scope, instance: Drawn, index: int) -> Constant | Place | None:
        """What an input of a subgraph is given: the wire into its instance, or what the instance holds for it."""
        name = scope.definition.inputs[index] if 0 <= index < len(scope.definition.inputs) else ""
        slot = _outer(instance, name, index)
        if slot is not None and slot.link:
            return Place(above, slot, slot.type)
        return Constant(scope.given[name], promoted=True) if name in scope.given else self._shown(scope, index)

    def _shown(self, scope: Scope, index: int) -> Constant | None:
        """The value of the first widget inside that an input stands for: an instance shows it until it has its own."""
        for node, slot in scope.definition.behind(index):
            inside = self._inside(scope, node)
            if inside is not None:
                if slot.name in inside.given:
                    return Constant(inside.given[slot.name], promoted=True)
                place = inside.definition.inputs.index(slot.name) if slot.name in inside.definition.inputs else -1
                return self._shown(inside, place)
            _, values, _ = self._values(scope, node)
            return Constant(values[slot.widget]) if slot.widget in values else None
        return None


def _bridge(scope: Scope, node: Drawn, index: int, wanted: str) -> Constant | Place | None:
    """What a node that is not executed passes on."""
    if node.kind == PRIMITIVE:
        return Constant(node.values[0]) if isinstance(node.values, tuple) and node.values else None
    if node.kind in GETTERS:
        return _named_wire(scope, wire_name(node), wanted)
    slot = passed_on(node, index)
    return Place(scope, slot, wanted) if slot else None


def _named_wire(scope: Scope | None, name: str, wanted: str) -> Place | None:
    """What goes into the setter of a name, in the graph of the getter or in one that holds it."""
    while scope is not None and name:
        nodes = scope.definition.nodes.values()
        setter = next((node for node in nodes if node.kind in SETTERS and wire_name(node) == name), None)
        if setter is not None:
            return Place(scope, setter.inputs[0], wanted) if setter.inputs else None
        scope = scope.above[0] if scope.above else None
    return None


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
    return _of_inputs(definition, instance.values), {}


def _of_inputs(definition: Definition, values: tuple[Value, ...]) -> dict[str, Value]:
    """Without proxies the widgets are those inputs that lead to one; some files hold how a seed changes, too."""
    given: dict[str, Value] = {}
    extra = len(values) - len(definition.widgets)
    at = 0
    for name in definition.widgets:
        if at >= len(values):
            break
        if values[at] is not None:
            given[name] = values[at]
        at += 1
        if extra > 0 and at < len(values) and _is_controlled(definition, name):
            at, extra = at + 1, extra - 1
    return given


def _is_controlled(definition: Definition, name: str) -> bool:
    """Whether the editor writes how an input changes after the value that it holds."""
    for node, slot in definition.behind(definition.inputs.index(name)):
        kind = node_type(node.kind)
        entry = kind.input(slot.widget) if kind else None
        return entry is not None and entry.is_controlled
    return False


def _of_group(definition: Definition, values: tuple[Value, ...]) -> dict[tuple[str, str], Value]:
    """A group's values are those of its nodes, one after another."""
    found: dict[tuple[str, str], Value] = {}
    for node in definition.nodes.values():
        count = len(node.values)
        named, _ = named_values(node_type(node.kind), values[:count])
        found |= {(node.id, name): value for name, value in named.items()}
        values = values[count:]
    return {} if values else found
