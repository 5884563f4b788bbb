"""A user's graph with its character taken out of it: what draws the impostors of a calibration.

Known face guides are put to weight 0, face swaps off, reference images are unplugged, LoRAs of the character get
strength 0. Which nodes are guides, and what turns each off, the guides say (`graph.guides`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sosie.core.errors import NotFoundError
from sosie.files.foreign import as_object
from sosie.graph.graph import Graph, Link, Node
from sosie.graph.guides import guide_node
from sosie.graph.settings import PINS, find_input, read_value

LORAS = ("LoraLoader", "LoraLoaderModelOnly", "LoraLoaderBypass")
STRENGTHS = ("strength_model", "strength_clip")
CONTROLS = ("ControlNetApply", "ControlNetApplyAdvanced", "ControlNetApplySD3", "unCLIPConditioning")

AMOUNTS = frozenset({"strength", "weight", "scale"})
SWITCHES = frozenset({"enabled", "enable", "active"})
"""Words in names of inputs that say how much, or whether, a node of an unknown class acts."""


@dataclass(frozen=True)
class InputChange:
    """An input of a node and the value that takes out what it brings; None: the input is left out."""

    node: str
    input: str
    value: Any

    @property
    def is_setting(self) -> bool:
        """Whether `text` can be given to `--set`."""
        return isinstance(self.value, bool | int | float)

    @property
    def text(self) -> str:
        """As a setting is written: `4.weight=0`."""
        value = self.value
        word = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, int | float) else ""
        return f"{self.node}.{self.input}={word or ('off' if value else 'nothing')}"


def guide_changes(graph: Graph, output: str) -> tuple[InputChange, ...]:
    """What takes the known face guides out of what leads to `output`; nothing for those that do nothing anyway."""
    found: list[InputChange] = []
    for node in _running(graph, output):
        guide = guide_node(node.kind)
        if guide is not None and (not guide.any_image or _is_for_faces(graph, node)):
            found += [InputChange(node.id, name, value) for name, value in guide.off]
    found = list(_effective(graph, found))
    return tuple(found) if any(not _only_loads(graph.nodes[change.node]) for change in found) else ()


def lora_changes(graph: Graph, output: str, is_own: Callable[[str], bool]) -> tuple[InputChange, ...]:
    """What takes the LoRAs out of which `is_own` says, by the name in the node, that they show the character."""
    found: list[InputChange] = []
    for node in _running(graph, output):
        if any(isinstance(value, str) and is_own(value) for value in node.inputs.values()):
            found += [InputChange(node.id, name, 0.0) for name in dials(node)]
        for name, value in node.inputs.items():
            entry = as_object(value)
            if isinstance(entry.get("lora"), str) and is_own(entry["lora"]):
                found.append(InputChange(node.id, name, {**entry, "on": False, "strength": 0}))
    return tuple(_effective(graph, found))


def split_settings(graph: Graph, settings: Sequence[str]) -> tuple[tuple[str, ...], tuple[InputChange, ...]]:
    """Settings that belong to the workflow, and those that take something out of it as changes.

    A setting takes out if it puts an amount to 0, or a switch to false, of a LoRA, a guide, a ControlNet or a
    node of an unknown class. Of a LoRA all strengths go. Raises as `apply_settings` does.
    """
    kept: list[str] = []
    taken: list[InputChange] = []
    for setting in settings:
        left, _, text = setting.partition("=")
        if left.strip() in PINS or "=" not in setting:
            kept.append(setting)
            continue
        node, name = find_input(graph, left.strip())
        names = dials(node)
        value = read_value(graph, node, name, text) if name in names else text
        if name not in names or value not in (0, False):
            kept.append(setting)
            continue
        taken += [InputChange(node.id, other, value) for other in (names if node.kind in LORAS else (name,))]
    return tuple(kept), tuple(_effective(graph, taken))


def apply_changes(graph: Graph, changes: Iterable[InputChange]) -> Graph:
    """The graph with the changes in it. Raises `NotFoundError` if it has no such node."""
    nodes = dict(graph.nodes)
    for change in changes:
        if change.node not in nodes:
            raise NotFoundError(f"the graph has no node '{change.node}'")
        node = nodes[change.node]
        inputs = {**node.inputs, change.input: change.value}
        if change.value is None:
            del inputs[change.input]
        nodes[node.id] = dataclasses.replace(node, inputs=MappingProxyType(inputs))
    return dataclasses.replace(graph, nodes=MappingProxyType(nodes))


def candidates(graph: Graph, output: str) -> tuple[tuple[Node, str], ...]:
    """Nodes that may show a character and still act, each with the input that takes it out."""
    found: list[tuple[Node, str]] = []
    for node in _running(graph, output):
        acting = [name for name in dials(node) if isinstance(node.inputs.get(name), Link) or node.inputs.get(name)]
        if acting and not _only_loads(node):
            found.append((node, acting[0]))
    return tuple(found)


def described(node: Node) -> str:
    """A node as messages name it: its class, and the file that it loads."""
    file = node.inputs.get("lora_name")
    return f"{node.kind[:80]} {file[:80]}" if isinstance(file, str) else node.kind[:80]


def dials(node: Node) -> tuple[str, ...]:
    """The inputs that say how much a node acts, if it is one that may show a character."""
    if node.kind in LORAS:
        names: Iterable[str] = STRENGTHS
    elif guide := guide_node(node.kind):
        names = guide.dials
    elif node.kind in CONTROLS:
        names = ("strength",)
    elif node.type is None:
        names = (name for name, value in node.inputs.items() if _is_dial(name, value))
    else:
        names = ()
    return tuple(name for name in names if name in node.inputs)


def _is_dial(name: str, value: Any) -> bool:
    words = set(re.split(r"[^a-z]+", name.lower()))
    if isinstance(value, bool):
        return bool(words & SWITCHES)
    return isinstance(value, int | float) and bool(words & AMOUNTS)


def _is_for_faces(graph: Graph, node: Node) -> bool:
    """Whether an adapter's weights are for faces, by the node that loads them."""
    found = graph.source(node, "ipadapter")
    if found is None:
        return False
    named = (found[0].inputs.get("preset"), found[0].inputs.get("ipadapter_file"))
    return _only_loads(found[0]) or any(isinstance(text, str) and "face" in text.lower() for text in named)


def _only_loads(node: Node) -> bool:
    guide = guide_node(node.kind)
    return guide is not None and guide.is_loader


def _effective(graph: Graph, changes: Iterable[InputChange]) -> Iterator[InputChange]:
    """The changes that change something, the first of each input."""
    done: set[tuple[str, str]] = set()
    for change in changes:
        inputs = graph.nodes[change.node].inputs
        place = (change.node, change.input)
        if place not in done and change.input in inputs and inputs[change.input] != change.value:
            done.add(place)
            yield change


def _running(graph: Graph, output: str) -> Iterator[Node]:
    above = graph.above(output)
    return (node for node in graph if node.id in above)
