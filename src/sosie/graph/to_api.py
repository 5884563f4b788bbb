"""Writes a graph in the API format: what ComfyUI is sent."""

from __future__ import annotations

from typing import Any, cast

from sosie.graph.graph import Graph, Link, Node, Value


def to_api(graph: Graph) -> dict[str, dict[str, Any]]:
    """The nodes by id, as `from_api` reads them; titles go along, for the editor shows them."""
    return {node.id: _node(node) for node in graph}


def _node(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "class_type": node.kind,
        "inputs": {name: _value(value) for name, value in node.inputs.items()},
    }
    return entry | {"_meta": {"title": node.title}} if node.title else entry


def _value(value: Link | Value) -> Any:
    """A list could be taken for a link, so it is wrapped as ComfyUI wraps it."""
    if isinstance(value, Link):
        return [value.node, value.slot]
    if isinstance(value, tuple | list):
        return {"__value__": list(cast("list[Any]", value))}
    return value
