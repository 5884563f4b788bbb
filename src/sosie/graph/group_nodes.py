"""Group nodes, the forerunners of subgraphs: an instance `workflow>NAME`, its inside in `extra.groupNodes`.

The inside's links name nodes by their place in the list. What the inside leaves open are the instance's inputs
and outputs, node by node in order.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from sosie.files.foreign import as_list, as_object, as_objects
from sosie.graph.ui_parts import INPUTS, OUTPUTS, Definition, Drawn, Wire, read_node

KIND = re.compile(r"workflow[>/](.+)", re.DOTALL)


def group_name(kind: str) -> str:
    """The name of the group that a class means, or empty."""
    match = KIND.fullmatch(kind)
    return match[1] if match else ""


def groups(extra: Any) -> dict[str, dict[str, Any]]:
    """The groups of a file by name."""
    return {name: as_object(group) for name, group in as_object(as_object(extra).get("groupNodes")).items()}


def read_group(group: dict[str, Any], where: str) -> Definition:
    """The inside of a group as the definition of a subgraph, its open ends wired to inputs and outputs.

    Raises `BadModelError` for a node without a class.
    """
    nodes = {str(i): read_node(entry, where, str(i)) for i, entry in enumerate(as_objects(group.get("nodes")))}
    rows = [_whole(entry) for entry in as_list(group.get("links"))]
    wires = {f"l{i}": Wire(str(r[0]), r[1], str(r[2]), r[3]) for i, r in enumerate(rows) if len(r) >= 4}
    external = {(str(row[0]), row[1]) for entry in as_list(group.get("external")) if len(row := _whole(entry)) >= 2}
    names = _open_inputs(nodes, wires)
    _open_outputs(nodes, wires, external)
    ends = {(wire.target, wire.target_slot): name for name, wire in wires.items()}
    return Definition({name: _wired(node, ends) for name, node in nodes.items()}, wires, names)


def _whole(entry: Any) -> list[int]:
    """The whole numbers that a row begins with."""
    row: list[int] = []
    for part in as_list(entry):
        if not isinstance(part, int):
            break
        row.append(part)
    return row


def _open_inputs(nodes: dict[str, Drawn], wires: dict[str, Wire]) -> tuple[str, ...]:
    """Wires every input that nothing inside feeds to an input of the group; returns their names."""
    fed = {(wire.target, wire.target_slot) for wire in wires.values()}
    names: list[str] = []
    for node in nodes.values():
        for slot, entry in enumerate(node.inputs):
            if (node.id, slot) not in fed and not entry.widget:
                wires[f"i{len(names)}"] = Wire(INPUTS, len(names), node.id, slot)
                names.append(entry.name)
    return tuple(names)


def _open_outputs(nodes: dict[str, Drawn], wires: dict[str, Wire], external: set[tuple[str, int]]) -> None:
    """Wires every output that nothing inside takes, or that is shown outside, to an output of the group."""
    used = {(wire.origin, wire.slot) for wire in wires.values()}
    shown = [
        (node.id, slot)
        for node in nodes.values()
        for slot in range(len(node.outputs))
        if (node.id, slot) not in used or (node.id, slot) in external
    ]
    for place, (name, slot) in enumerate(shown):
        wires[f"o{place}"] = Wire(name, slot, OUTPUTS, place)


def _wired(node: Drawn, ends: dict[tuple[str, int], str]) -> Drawn:
    """The node with the wires of the group in place of those that it had before it was grouped."""
    slots = (dataclasses.replace(slot, link=ends.get((node.id, i), "")) for i, slot in enumerate(node.inputs))
    return dataclasses.replace(node, inputs=tuple(slots))
