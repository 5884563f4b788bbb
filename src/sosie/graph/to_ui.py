"""Writes a graph in the UI format, laid out to be read: from left to right, each group in its own frame.

A node stands one column right of the last of those in its group that it needs; in a column, nodes stand in the order
of what feeds them. Read back by `from_ui` it is the same graph if every widget up to the last that has a value has
one, no input of links holds a value (this format has no place for that), and no text after a number is one that the
editor writes there itself (`fixed`, `randomize`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any, cast

from sosie.core.errors import BadModelError
from sosie.graph.graph import Graph, Link, Node
from sosie.graph.notation import Input, NodeType

WIDTH, WIDE = 300, 420
"""Widths in pixels of a node, and of one that holds a text."""

TITLE, SLOT, WIDGET, TEXT, BORDER = 30, 22, 26, 130, 12
"""Heights in pixels: of a title, a socket, a widget, a text of several lines, and below the last."""

GAP_X, GAP_Y, FRAME = 70, 60, 50
"""Pixels between columns, between nodes of a column, and between a frame and its nodes."""

COLOUR = "#3f789e"

CARRIED = {"SEED": "INT", "SAMPLER_NAME": "COMBO", "SCHEDULER_NAME": "COMBO", "FILE": "COMBO", "IMAGE_FILE": "COMBO"}
"""What the editor calls the types of widgets."""

LONG = ("text", "text_g", "text_l", "prompt", "value", "wildcard")
"""Texts for which the editor shows several lines."""


@dataclass(frozen=True)
class Box:
    """Where a node or a frame stands: left, top, width and height in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower edge."""
        return self.y + self.height


def to_ui(graph: Graph, groups: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The document that the editor opens; `groups` maps ids of nodes to the title of their frame.

    Raises `BadModelError` for a link that leads nowhere: this format cannot say it.
    """
    links, numbers = _links(graph)
    boxes, frames = lay_out(graph, groups or {})
    order = {name: place for place, name in enumerate(_sorted(graph))}
    drawn = _Drawing(graph, links, numbers)
    whole = [int(name) for name in graph.nodes if _is_number(name)]
    return {
        "revision": 0,
        "last_node_id": max(whole, default=0),
        "last_link_id": len(links),
        "nodes": [drawn.node(node, boxes[node.id], order[node.id]) for node in graph],
        "links": links,
        "groups": [_frame(place, title, box) for place, (title, box) in enumerate(frames.items(), 1)],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def lay_out(graph: Graph, groups: Mapping[str, str]) -> tuple[dict[str, Box], dict[str, Box]]:
    """Where every node stands, by id, and where the frames of the groups are, by title. No two nodes touch."""
    boxes: dict[str, Box] = {}
    frames: dict[str, Box] = {}
    left = 0.0
    for title in dict.fromkeys(groups.get(name, "") for name in graph.nodes):
        members = [node for node in graph if groups.get(node.id, "") == title]
        placed = _columns(graph, members, boxes, left + FRAME)
        boxes |= placed
        right = max(box.right for box in placed.values()) + FRAME
        if title:
            bottom = max(box.bottom for box in placed.values())
            frames[title] = Box(left, -FRAME - TITLE, right - left, bottom + 2 * FRAME + TITLE)
        left = right + FRAME
    return boxes, frames


def _columns(graph: Graph, members: list[Node], before: Mapping[str, Box], left: float) -> dict[str, Box]:
    """The nodes of one group in columns by depth, `before` being what stands already."""
    depth = _depths(graph, {node.id for node in members})
    boxes: dict[str, Box] = {}
    for column in range(max(depth.values()) + 1):
        nodes = [node for node in members if depth[node.id] == column]
        nodes.sort(key=lambda node: _pull(node, {**before, **boxes}))
        top = 0.0
        for node in nodes:
            width, height = _size(node)
            boxes[node.id] = Box(left, top + TITLE, width, height)
            top += TITLE + height + GAP_Y
        left += max(boxes[node.id].width for node in nodes) + GAP_X
    return boxes


def _pull(node: Node, boxes: Mapping[str, Box]) -> float:
    """The mean height of what feeds a node: it should stand there."""
    feeding = [boxes[link.node].y for link in _sources(node) if link.node in boxes]
    return mean(feeding) if feeding else 0.0


def _depths(graph: Graph, inside: set[str]) -> dict[str, int]:
    """How many nodes of a group stand before each of its nodes, on the longest way."""
    depths: dict[str, int] = {}
    for name in _sorted(graph):
        if name in inside:
            above = [depths[link.node] for link in _sources(graph.nodes[name]) if link.node in depths]
            depths[name] = max(above, default=-1) + 1
    return depths


def _sorted(graph: Graph) -> list[str]:
    """The ids so that each comes after what it needs; nodes of a circle come last."""
    done: dict[str, None] = {}
    waiting = list(graph)
    while waiting:
        ready = [n for n in waiting if all(link.node in done or link.node not in graph.nodes for link in _sources(n))]
        if not ready:
            ready = waiting
        done |= dict.fromkeys(node.id for node in ready)
        waiting = [node for node in waiting if node.id not in done]
    return list(done)


def _sources(node: Node) -> Iterable[Link]:
    return (value for value in node.inputs.values() if isinstance(value, Link))


def _size(node: Node) -> tuple[float, float]:
    kind = node.type
    widgets = [entry for entry in kind.widgets if entry.name in node.inputs] if kind else []
    long = [entry for entry in widgets if entry.type == "STRING" and entry.name in LONG]
    values = len(widgets) if kind else sum(not isinstance(value, Link) for value in node.inputs.values())
    sockets = max(sum(1 for _ in _sources(node)), len(kind.outputs) if kind else 1)
    controls = sum(entry.is_controlled or entry.type == "IMAGE_FILE" for entry in widgets)
    height = sockets * SLOT + (values + controls - len(long)) * WIDGET + len(long) * TEXT + BORDER
    return WIDE if long else WIDTH, height


def _links(graph: Graph) -> tuple[list[list[Any]], dict[tuple[str, str], int]]:
    """The links as the file lists them, and the number of each by node and input."""
    rows: list[list[Any]] = []
    numbers: dict[tuple[str, str], int] = {}
    for node in graph:
        for slot, (name, link) in enumerate(_sockets(node)):
            if link is None:
                continue
            source = graph.nodes.get(link.node)
            if source is None:
                raise BadModelError(f"{node.label}: '{name}' is linked to node {link.node}, which is not there")
            numbers[node.id, name] = len(rows) + 1
            carries = _gives(source, link.slot)
            rows.append([len(rows) + 1, _id(link.node), link.slot, _id(node.id), slot, carries])
    return rows, numbers


def _sockets(node: Node) -> list[tuple[str, Link | None]]:
    """The inputs that are drawn as sockets: all that take links, and the widgets that are linked."""
    kind = node.type
    entries = kind.takes(node.inputs) if kind else ()
    names = [entry.name for entry in entries if not entry.is_widget or node.link(entry.name)]
    names += [name for name, value in node.inputs.items() if isinstance(value, Link) and name not in names]
    return [(name, node.link(name)) for name in names]


def _gives(source: Node, slot: int) -> str:
    kind = source.type
    return kind.outputs[slot] if kind and 0 <= slot < len(kind.outputs) else "*"


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What the nodes of the file are written from."""

    graph: Graph
    links: list[list[Any]]
    numbers: Mapping[tuple[str, str], int]

    def node(self, node: Node, box: Box, order: int) -> dict[str, Any]:
        kind = node.type
        entry: dict[str, Any] = {
            "id": _id(node.id),
            "type": node.kind,
            "pos": [box.x, box.y],
            "size": [box.width, box.height],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": [self._socket(node, kind, name) for name, _ in _sockets(node)],
            "outputs": self._outputs(node, kind),
            "properties": {"Node name for S&R": node.kind},
            "widgets_values": _values(node, kind),
        }
        return entry | {"title": node.title} if node.title else entry

    def _socket(self, node: Node, kind: NodeType | None, name: str) -> dict[str, Any]:
        known = kind.input(name) if kind else None
        link = node.link(name)
        given = _gives(self.graph.nodes[link.node], link.slot) if link else "*"
        carries = CARRIED.get(known.type, known.type) if known else given
        socket: dict[str, Any] = {"name": name, "type": carries, "link": self.numbers.get((node.id, name))}
        return socket | {"widget": {"name": name}} if known and known.is_widget else socket

    def _outputs(self, node: Node, kind: NodeType | None) -> list[dict[str, Any]]:
        taken: dict[int, list[int]] = {}
        for number, origin, slot, *_ in self.links:
            if origin == _id(node.id):
                taken.setdefault(slot, []).append(number)
        carried = list(kind.outputs) if kind else []
        carried += ["*"] * (max(taken, default=-1) + 1 - len(carried))
        return [
            {"name": name, "type": name, "links": taken.get(slot) or None, "slot_index": slot}
            for slot, name in enumerate(carried)
        ]


def _values(node: Node, kind: NodeType | None) -> Any:
    """The widgets' values: a list in the order of the schema, by name where the class is not known."""
    if kind is None:
        return {name: _plain(value) for name, value in node.inputs.items() if not isinstance(value, Link)}
    widgets = [entry for entry in kind.takes(node.inputs) if entry.is_widget]
    last = max((place for place, entry in enumerate(widgets, 1) if entry.name in node.inputs), default=0)
    values: list[Any] = []
    for entry in widgets[:last]:
        values += _value(entry, node.inputs.get(entry.name))
    return values


def _value(entry: Input, given: Any) -> list[Any]:
    """A widget's value, and what the editor puts after it: how it changes after a run, and a button."""
    value = entry.fallback if given is None or isinstance(given, Link) else _plain(given)
    if entry.is_controlled:
        return [value, "fixed"] if entry.type in ("INT", "SEED") else [value, "fixed", ""]
    return [value, "image"] if entry.type == "IMAGE_FILE" else [value]


def _plain(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _frame(place: int, title: str, box: Box) -> dict[str, Any]:
    bounding = [box.x, box.y, box.width, box.height]
    return {"id": place, "title": title, "bounding": bounding, "color": COLOUR, "font_size": 24, "flags": {}}


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name


def _id(name: str) -> int | str:
    """Ids are numbers in the file where they can be; those of unfolded subgraphs (`12:5`) stay texts."""
    return int(name) if _is_number(name) else name
