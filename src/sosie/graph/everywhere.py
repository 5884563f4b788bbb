"""Links that cg-use-everywhere draws when the editor sends a graph: inputs without a wire are fed by their type.

A file of a newer version lists the links itself (`extra.ue_links`); for others its rules are followed (version 7.8):
what goes into an "Anything Everywhere" is sent to every open input of that type, by priority, and not at all where two
are equal. Rules of groups and colours are not followed: what they send is told as `undrawn`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sosie.files.foreign import as_id, as_object, as_objects, as_text, list_or_none
from sosie.graph.editor_nodes import VIRTUAL
from sosie.graph.ui_parts import INPUTS, NEVER, Definition, Drawn, Slot, Wire

ALWAYS = 0
"""The mode of a node that runs; the pack takes no other for live."""

PROMPTS = (r"(_|\b)pos(itive|_|\b)", r"(_|\b)neg(ative|_|\b)")
SEED = "seed"
"""What the pack's two special nodes want in the name of an input."""

HARMLESS = re.compile(r"(?:[^()*+?{}\\]|\\.|[()](?![*+?{]))*(?:\.[*+](?:[^()*+?{}\\]|\\.|[()](?![*+?{]))*){0,2}")
"""Patterns of a file that are tried: without repeats that a text can be made to take forever."""


@dataclass(frozen=True)
class Broadcast:
    """What one node sends everywhere: an output, its type, and the rules of where to."""

    origin: str
    slot: int
    type: str
    priority: float
    title: re.Pattern[str] | None = None
    input: re.Pattern[str] | None = None
    inverted: tuple[bool, bool] = (False, False)
    named: str = ""
    to_any: bool = False

    def reaches(self, node: Drawn, slot: Slot) -> bool:
        """Whether an open input is one that it is sent to."""
        if node.id == self.origin or not (slot.type == self.type or (slot.type == "*" and self.to_any)):
            return False
        if self.named and slot.name != self.named:
            return False
        texts = (node.title or node.kind, slot.name)
        rules = zip((self.title, self.input), self.inverted, texts, strict=True)
        return all(rule is None or bool(rule.search(text[:200])) != inverted for rule, inverted, text in rules)


@dataclass(frozen=True)
class Everywhere:
    """A graph with the links in it, and what was drawn: see `sosie.graph.graph.Editing`."""

    definition: Definition
    broadcasts: tuple[str, ...] = ()
    drawn: int = 0
    undrawn: frozenset[str] = field(default=frozenset())


def draw_everywhere(definition: Definition, connects_widgets: bool) -> Everywhere:
    """The graph with the links of the pack. `connects_widgets`: an old file, whose slots of widgets are all inputs."""
    senders = [node for node in definition.nodes.values() if _sends(node)]
    if not senders:
        return Everywhere(definition)
    told = tuple(f"{node.kind[:80]} {node.id[:40]}" for node in senders)
    recorded = list(_recorded(definition))
    if recorded:
        return Everywhere(_drawn(definition, recorded), told, len(recorded))
    undrawn: set[str] = set()
    broadcasts = [sent for node in senders for sent in _broadcasts(definition, node, undrawn)]
    links = list(_matched(definition, broadcasts, connects_widgets))
    return Everywhere(_drawn(definition, links), told, len(links), frozenset(undrawn))


def _is_sender(kind: str) -> bool:
    return kind.startswith("Anything Everywhere") or kind in ("Prompts Everywhere", "Seed Everywhere")


def _sends(node: Drawn) -> bool:
    return node.mode == ALWAYS and (_is_sender(node.kind) or node.properties.get("ue_convert") is True)


@dataclass(frozen=True)
class _Added:
    """A link to draw: from an output to a slot of a node, which may not stand in the file yet."""

    origin: str
    output: int
    node: str
    slot: Slot


def _recorded(definition: Definition) -> Iterator[_Added]:
    """The links that the file lists, as far as both of their ends are there and the input is open."""
    for entry in as_objects(list_or_none(definition.extra.get("ue_links")) or []):
        node = definition.nodes.get(as_id(entry.get("downstream")))
        origin, output = as_id(entry.get("upstream")), entry.get("upstream_slot")
        index = entry.get("downstream_slot")
        if node is None or type(output) is not int or type(index) is not int:
            continue
        slot = _slot_of(node, index, as_text(entry.get("type")))
        if slot is not None and not slot.link and (origin in definition.nodes or origin == INPUTS):
            yield _Added(origin, output, node.id, slot)


def _slot_of(node: Drawn, index: int, carries: str) -> Slot | None:
    """The input that a recorded link ends at. Slots of widgets without a wire are not in the file, and count there."""
    if 0 <= index < len(node.inputs) and carries in (node.inputs[index].type, ""):
        return node.inputs[index]
    open_ = [slot for slot in node.inputs if slot.type == carries and not slot.link]
    return open_[0] if len(open_) == 1 else None


def _broadcasts(definition: Definition, node: Drawn, undrawn: set[str]) -> Iterator[Broadcast]:
    """What a node sends; the types that its rules send to places that cannot be told here are added to `undrawn`."""
    if node.kind == "Seed Everywhere":
        yield Broadcast(node.id, 0, "INT", 20, input=re.compile(SEED))
        return
    sources = list(_sources(definition, node))
    rules = _Rules.of(node)
    types = [carries for _, _, carries, _ in sources]
    for place, (origin, slot, carries, name) in enumerate(sources):
        twice = types.count(carries) > 1
        if rules is None or carries in ("", "*") or (twice and rules.repeated):
            undrawn.add(carries or "*")
            continue
        prompt = re.compile(PROMPTS[place]) if node.kind == "Prompts Everywhere" and place < len(PROMPTS) else None
        restricted = bool(rules.title or rules.input or twice)
        priority = rules.priority or 10 + 10 * (node.kind == "Prompts Everywhere") + 20 * restricted
        yield Broadcast(
            origin,
            slot,
            carries,
            priority,
            rules.title,
            prompt or rules.input,
            rules.inverted,
            name if twice and prompt is None else "",
            rules.to_any,
        )


def _sources(definition: Definition, node: Drawn) -> Iterator[tuple[str, int, str, str]]:
    """What a node sends on: the outputs behind its inputs or, if it was made a sender, its own; type and name."""
    if not _is_sender(node.kind):
        silent = as_object(as_object(node.properties.get("ue_properties")).get("output_not_broadcasting"))
        for index, output in enumerate(node.outputs):
            if not silent.get(output.name):
                yield node.id, index, output.type, output.name
        return
    for slot in node.inputs:
        wire = definition.wires.get(slot.link)
        source = definition.nodes.get(wire.origin) if wire else None
        if wire is None or (source is not None and source.mode == NEVER):
            continue
        outputs = source.outputs if source else ()
        carries = outputs[wire.slot].type if 0 <= wire.slot < len(outputs) else ""
        yield wire.origin, wire.slot, carries if carries not in ("", "*") else slot.type, slot.name


@dataclass(frozen=True)
class _Rules:
    """How the user restricts what a node sends."""

    title: re.Pattern[str] | None = None
    input: re.Pattern[str] | None = None
    inverted: tuple[bool, bool] = (False, False)
    priority: float = 0
    repeated: int = 0
    to_any: bool = False

    @classmethod
    def of(cls, node: Drawn) -> _Rules | None:
        """The rules of a node; None for those that cannot be followed here."""
        told = as_object(node.properties.get("ue_properties"))
        old = dict(zip(("title_regex", "input_regex", "group_regex"), _texts(node), strict=False))
        patterns = {name: as_text(told.get(name)) or old.get(name, "") for name in ("title_regex", "input_regex")}
        groups = as_text(told.get("group_regex")) or old.get("group_regex", "")
        restricted = [told.get(key, node.properties.get(key)) for key in ("group_restricted", "color_restricted")]
        if any(restricted) or groups not in ("", ".*") or not all(map(HARMLESS.fullmatch, patterns.values())):
            return None
        try:
            title, name = (re.compile(text) if text not in ("", ".*") else None for text in patterns.values())
        except re.error:
            return None
        inverted = (bool(told.get("title_regex_invert")), bool(told.get("input_regex_invert")))
        priority, repeated = told.get("priority"), told.get("repeated_type_rule")
        return cls(
            title,
            name,
            inverted,
            priority if isinstance(priority, int | float) else 0,
            repeated if isinstance(repeated, int) else 0,
            bool(told.get("send_to_any")),
        )


def _texts(node: Drawn) -> list[str]:
    """The rules of `Anything Everywhere?`, which its first versions kept as widgets."""
    return [as_text(value) for value in node.values] if isinstance(node.values, tuple) and "?" in node.kind else []


def _matched(definition: Definition, broadcasts: list[Broadcast], connects_widgets: bool) -> Iterator[_Added]:
    """A link for each open input that one broadcast reaches before all others."""
    for node in definition.nodes.values():
        if node.mode != ALWAYS or _is_sender(node.kind) or node.kind in VIRTUAL:
            continue
        if node.properties.get("rejects_ue_links"):
            continue
        for slot in node.inputs:
            if slot.link or not _is_open(node, slot, connects_widgets):
                continue
            found = sorted((sent for sent in broadcasts if sent.reaches(node, slot)), key=lambda sent: -sent.priority)
            if found and (len(found) == 1 or found[0].priority != found[1].priority):
                yield _Added(found[0].origin, found[0].slot, node.id, slot)


def _is_open(node: Drawn, slot: Slot, connects_widgets: bool) -> bool:
    told = as_object(node.properties.get("ue_properties"))
    if slot.widget:
        listed = as_object(told.get("widget_ue_connectable") or node.properties.get("widget_ue_connectable"))
        return bool(listed.get(slot.name)) if listed or told else connects_widgets
    return not as_object(told.get("input_ue_unconnectable")).get(slot.name)


def _drawn(definition: Definition, links: list[_Added]) -> Definition:
    """The graph with links added to it."""
    nodes: dict[str, Drawn] = dict(definition.nodes)
    wires: dict[str, Wire] = dict(definition.wires)
    for number, added in enumerate(links):
        name, node = f"everywhere {number}", nodes[added.node]
        index = definition.nodes[added.node].inputs.index(added.slot)
        slots = list(node.inputs)
        slots[index] = dataclasses.replace(added.slot, link=name)
        nodes[added.node] = dataclasses.replace(node, inputs=tuple(slots))
        wires[name] = Wire(added.origin, added.output, added.node, index)
    return dataclasses.replace(definition, nodes=nodes, wires=wires)


def connects_widgets(extra: Mapping[str, Any]) -> bool:
    """Whether a file is of an editor before 1.16, in which only widgets that were made inputs have a slot."""
    match = re.match(r"(\d+)\.(\d+)", as_text(extra.get("frontendVersion")))
    return match is None or (int(match[1]), int(match[2])) < (1, 16)
