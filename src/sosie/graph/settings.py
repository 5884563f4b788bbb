"""Changes to a user's graph from the command line: `NODE.input=value`.

NODE is a node's id, its title, or its class where only one node is of it. A value is read as the schema's type of
the input. Words without a dot (`prompt=6.text`, `output=9`) say what a place of the graph is for: see `Pins`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.graph.build import Place
from sosie.graph.graph import Graph, Link, Node
from sosie.graph.notation import Input

HINT = '--set "NODE.input=value", NODE being an id, a title or a class'

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

SHOWN = 8
"""Most nodes that one message lists."""


@dataclass(frozen=True)
class Pins:
    """What the user says places of a graph are for, where it cannot be told from the graph.

    `prompt`, `negative`, `seed`, `width` and `height` are inputs, `output` is the node whose image is the result.
    """

    prompt: Place | None = None
    negative: Place | None = None
    seed: Place | None = None
    width: Place | None = None
    height: Place | None = None
    output: str = ""


PINS = tuple(field.name for field in dataclasses.fields(Pins))


def apply_settings(graph: Graph, settings: Sequence[str]) -> tuple[Graph, Pins]:
    """The graph with the settings in it, later ones over earlier ones, and what they say of its places.

    Raises `UsageError` for a text that is not a setting, a value of the wrong type or out of range, an input that
    is linked, and a name that means several nodes; `NotFoundError` for a name that means none.
    """
    nodes = dict(graph.nodes)
    pins = Pins()
    for setting in settings:
        left, equals, value = setting.partition("=")
        left = left.strip()
        if not equals or not left:
            raise UsageError(f"'{setting}' is not a setting; expected NODE.input=value", HINT)
        if left in PINS:
            pins = dataclasses.replace(pins, **{left: _pinned(graph, left, value.strip())})
            continue
        node, name = find_input(graph, left)
        node = nodes[node.id]
        inputs = {**node.inputs, name: read_value(graph, node, name, value)}
        nodes[node.id] = dataclasses.replace(node, inputs=MappingProxyType(inputs))
    return dataclasses.replace(graph, nodes=MappingProxyType(nodes)), pins


def find_node(graph: Graph, name: str) -> Node:
    """A node by id, title or class. Raises `NotFoundError`, or `UsageError` if the name means several."""
    if name in graph.nodes:
        return graph.nodes[name]
    titled = [(node, node.title) for node in graph]
    of_class = [(node, node.kind) for node in graph]
    for pairs in (titled, of_class):
        exact = [node for node, text in pairs if text == name]
        found = exact or [node for node, text in pairs if text.casefold() == name.casefold()]
        if name and len(found) > 1:
            raise UsageError(f"'{name}' means {len(found)} nodes: {listed(found)}", "say which by its id")
        if name and found:
            return found[0]
    known = {text for node in graph for text in (node.id, node.title, node.kind) if text}
    near = nearest(name, known)
    near = near if near.startswith("; did") else f"; it has {listed(graph)}"
    raise NotFoundError(f"the graph has no node '{name}'{near}", HINT)


def find_input(graph: Graph, path: str) -> tuple[Node, str]:
    """The node and the input that `NODE.input` means; titles and inputs may hold dots themselves.

    Raises `NotFoundError` for a node or an input that is not there, `UsageError` for a name of several nodes.
    """
    places = [index for index, letter in enumerate(path) if letter == "."]
    if not places:
        raise UsageError(f"'{path}' names no input of a node; expected NODE.input", HINT)
    problems: list[NotFoundError | UsageError] = []
    unknown: list[NotFoundError] = []
    for place in reversed(places):
        try:
            node = find_node(graph, path[:place].strip())
        except (NotFoundError, UsageError) as error:
            problems.append(error)
            continue
        name = path[place + 1 :].strip()
        known = _inputs(node)
        if name in known:
            return node, name
        message = f"{node.label} has no input '{name}'{nearest(name, known)}"
        unknown.append(NotFoundError(message, f'--set "{node.id}.{known[0]}=value"' if known else HINT))
    raise [*unknown, *problems][0]


def read_value(graph: Graph, node: Node, name: str, text: str) -> Any:
    """The text as a value of an input. Raises `UsageError` if it cannot be one."""
    link = node.link(name)
    if link is not None:
        raise UsageError(f"{node.label}: '{name}' is linked to {_label(graph, link)}", _instead(graph, link))
    kind = node.type
    entry = kind.input(name) if kind else None
    where = f"{node.label}: {name} = {text!r}"
    if entry is None:
        return _like(node.inputs.get(name), text, where)
    if not entry.is_widget:
        raise UsageError(f"{where}: it takes a link that carries {entry.type}, and no value", "draw it in ComfyUI")
    return _typed(entry, text, where)


def listed(nodes: Iterable[Node]) -> str:
    """Nodes as messages name them: id, class, and the title that the user gave."""
    found = list(nodes)
    names = [f"{node.id} ({node.title or node.kind})" for node in found[:SHOWN]]
    return ", ".join(names) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _pinned(graph: Graph, pin: str, value: str) -> Any:
    if pin == "output":
        return find_node(graph, value).id
    node, name = find_input(graph, value)
    return Place(node.id, name)


def _inputs(node: Node) -> list[str]:
    """The names of a node's inputs: those of its class, and others that it has."""
    kind = node.type
    return list(dict.fromkeys((*(entry.name for entry in kind.widgets), *node.inputs) if kind else node.inputs))


def _typed(entry: Input, text: str, where: str) -> Any:
    if entry.type in ("INT", "SEED", "FLOAT"):
        return _number(entry, text, where)
    if entry.type == "BOOLEAN":
        return _boolean(text, where)
    if entry.choices and text not in entry.choices:
        raise UsageError(f"{where}: it is none of the choices{nearest(text, entry.choices)}", HINT)
    return text


def _number(entry: Input, text: str, where: str) -> int | float:
    try:
        value = float(text) if entry.type == "FLOAT" else int(text)
    except ValueError:
        wanted = "a number" if entry.type == "FLOAT" else "a whole number"
        raise UsageError(f"{where}: expected {wanted}", HINT) from None
    low, high = entry.low, entry.high
    outside = (low is not None and value < low) or (high is not None and value > high)
    if outside or not math.isfinite(value):
        raise UsageError(f"{where}: expected {low:g} to {high:g}", HINT)
    return value


def _boolean(text: str, where: str) -> bool:
    word = text.strip().casefold()
    if word not in (*TRUE, *FALSE):
        raise UsageError(f"{where}: expected true or false", HINT)
    return word in TRUE


def _like(present: Any, text: str, where: str) -> Any:
    """A value of the type that stands there now: all that is known of a class that is not in the schema."""
    if isinstance(present, bool):
        return _boolean(text, where)
    if isinstance(present, int | float):
        free = Input("", "INT" if isinstance(present, int) else "FLOAT", low=-math.inf, high=math.inf)
        return _number(free, text, where)
    if isinstance(present, str):
        return text
    raise UsageError(f"{where}: what it takes is not known here", "set it in ComfyUI and save again")


def _label(graph: Graph, link: Link) -> str:
    source = graph.nodes.get(link.node)
    return source.label if source else f"node {link.node}"


def _instead(graph: Graph, link: Link) -> str:
    """The node at the other end, where it holds a value."""
    source = graph.nodes.get(link.node)
    values = list(_values(source)) if source else []
    return f'set that one: --set "{link.node}.{values[0]}=value"' if values else "remove the link in ComfyUI"


def _values(node: Node) -> Iterator[str]:
    return (name for name, value in node.inputs.items() if not isinstance(value, Link))
