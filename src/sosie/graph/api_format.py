"""The API format: what ComfyUI is sent. Nodes by id, each with its class and its inputs by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from sosie.core.errors import BadModelError
from sosie.files.foreign import as_object, as_text, list_or_none, object_or_none
from sosie.graph.graph import MAX_NODES, Graph, Link, Node, Value
from sosie.graph.nodes import node_type
from sosie.graph.notation import Kinds


def is_api(table: Any) -> bool:
    """Whether it looks like this format: an object of objects, one of which has a class."""
    nodes = list(as_object(table).values())
    return all(isinstance(node, dict) for node in nodes) and any("class_type" in node for node in nodes)


def from_api(table: dict[str, Any], where: str, kinds: Kinds | None = None) -> Graph:
    """The graph; `where` names the file in errors, `kinds` describes classes that Sosie does not know.

    Raises `BadModelError` for a node without a class or inputs.
    """
    if len(table) > MAX_NODES:
        raise BadModelError(f"{where} has {len(table):,} nodes; at most {MAX_NODES:,} are read")
    return Graph(MappingProxyType({name: _node(name, node, where, kinds) for name, node in table.items()}))


def _node(name: str, table: dict[str, Any], where: str, kinds: Kinds | None) -> Node:
    kind, inputs = as_text(table.get("class_type")), object_or_none(table.get("inputs", {}))
    if not kind:
        raise BadModelError(f"{where}: node '{name[:40]}' has no class_type", "export it again with Export (API)")
    if inputs is None:
        raise BadModelError(f"{where}: the inputs of node '{name[:40]}' are not an object", "export it again")
    given = {key: _value(value) for key, value in inputs.items()}
    title = as_text(as_object(table.get("_meta")).get("title"))
    own = kinds(kind) if kinds is not None and node_type(kind) is None else None
    return Node(name, kind, MappingProxyType(given), title, own=own)


def _value(value: Any) -> Link | Value:
    """A pair of a node's id and an output's number is a link; `{"__value__": ...}` guards a list that is none."""
    table, pair = object_or_none(value), list_or_none(value)
    if table is not None:
        return table["__value__"] if set(table) == {"__value__"} else table
    if pair is not None:
        if len(pair) == 2 and isinstance(pair[0], str | int) and not isinstance(pair[0], bool) and type(pair[1]) is int:
            return Link(str(pair[0]), pair[1])
        return tuple(pair)
    return value
