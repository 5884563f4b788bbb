"""The API format: what ComfyUI is sent. Nodes by id, each with its class and its inputs by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, cast

from sosie.core.errors import BadModelError
from sosie.graph.graph import MAX_NODES, Graph, Link, Node, Value


def is_api(table: Any) -> bool:
    """Whether it looks like this format: an object of objects, one of which has a class."""
    if not isinstance(table, dict) or not table:
        return False
    nodes = list(cast("dict[str, Any]", table).values())
    return all(isinstance(node, dict) for node in nodes) and any("class_type" in node for node in nodes)


def from_api(table: dict[str, Any], where: str) -> Graph:
    """The graph; `where` names the file in errors. Raises `BadModelError` for a node without a class or inputs."""
    if len(table) > MAX_NODES:
        raise BadModelError(f"{where} has {len(table):,} nodes; at most {MAX_NODES:,} are read")
    return Graph(MappingProxyType({name: _node(name, node, where) for name, node in table.items()}))


def _node(name: str, table: dict[str, Any], where: str) -> Node:
    kind, inputs, meta = table.get("class_type"), table.get("inputs", {}), table.get("_meta")
    if not isinstance(kind, str) or not kind:
        raise BadModelError(f"{where}: node '{name[:40]}' has no class_type", "export it again with Export (API)")
    if not isinstance(inputs, dict):
        raise BadModelError(f"{where}: the inputs of node '{name[:40]}' are no object", "export it again")
    given = {key: _value(value) for key, value in cast("dict[str, Any]", inputs).items()}
    title = cast("dict[str, Any]", meta).get("title") if isinstance(meta, dict) else ""
    return Node(name, kind, MappingProxyType(given), title if isinstance(title, str) else "")


def _value(value: Any) -> Link | Value:
    """A pair of a node's id and an output's number is a link; `{"__value__": ...}` guards a list that is none."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return table["__value__"] if set(table) == {"__value__"} else table
    if isinstance(value, list):
        pair = cast("list[Any]", value)
        if len(pair) == 2 and isinstance(pair[0], str | int) and not isinstance(pair[0], bool) and type(pair[1]) is int:
            return Link(str(pair[0]), pair[1])
        return tuple(pair)
    return value
