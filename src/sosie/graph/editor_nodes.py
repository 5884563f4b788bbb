"""Nodes of the editor that are never executed, and what they pass on; and what a bypassed node does.

The rules of its `ExecutableNodeDTO` and `PrimitiveNode` (version 1.43), of KJNodes' named wires and of rgthree's nodes.
"""

from __future__ import annotations

from sosie.graph.notation import fits
from sosie.graph.ui_parts import Drawn, Slot

SETTERS = ("SetNode", "easy setNode")
GETTERS = ("GetNode", "easy getNode")
"""Named wires: a getter gives what goes into the setter of its name, in its own graph or one that holds it."""

PRIMITIVE = "PrimitiveNode"

NOTES = ("Note", "MarkdownNote", "Note Plus (mtb)", "Label (rgthree)", "Bookmark (rgthree)", "easy bookmark")

VIRTUAL = frozenset(
    {
        *NOTES,
        *SETTERS,
        *GETTERS,
        *("Reroute", "Reroute (rgthree)", PRIMITIVE, "Node Collector (rgthree)", "Fast Actions Button (rgthree)"),
        *("Fast Muter (rgthree)", "Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)"),
        *("Fast Groups Bypasser (rgthree)", "Mute / Bypass Relay (rgthree)", "Mute / Bypass Repeater (rgthree)"),
        "Random Unmuter (rgthree)",
    }
)
"""Classes that no server knows: notes, wires, and switches of other nodes' modes."""


def passed_on(node: Drawn, index: int) -> Slot | None:
    """The input whose wire an output of a node of the editor stands for: that of the same place, or its only one."""
    inputs = node.inputs[index : index + 1] or (node.inputs if len(node.inputs) == 1 else ())
    return inputs[0] if inputs else None


def bypassed(node: Drawn, index: int, wanted: str) -> Slot | None:
    """The input that a bypassed node passes on in place of an output, to an input of the type `wanted`; None: nothing.

    The one of the same place if it fits both, then the first of exactly that type, then the first that fits both. An
    input that takes anything gets the one of the same place, else the first.
    """
    same = node.inputs[index] if 0 <= index < len(node.inputs) else None
    if wanted in ("*", ""):
        return same or next(iter(node.inputs), None)
    gives = node.outputs[index].type if 0 <= index < len(node.outputs) else "*"
    suits = [slot for slot in node.inputs if fits(slot.type, gives) and fits(slot.type, wanted)]
    if same in suits:
        return same
    exact = next((slot for slot in node.inputs if slot.type == wanted), None)
    return exact or next(iter(suits), None)


def wire_name(node: Drawn) -> str:
    """The name of a named wire, or empty."""
    values = node.values
    return values[0] if isinstance(values, tuple) and values and isinstance(values[0], str) else ""
