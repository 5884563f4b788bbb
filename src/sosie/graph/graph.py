"""The noun `Graph`: a ComfyUI workflow as it would be executed, whichever format it was read from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sosie.graph.nodes import node_type
from sosie.graph.notation import NodeType

MAX_NODES = 10_000
"""Most nodes of one graph, subgraphs unfolded; the largest published templates have about 400."""

Value = Any
"""What a widget holds: a JSON value. A list that is not a link is rare, but allowed."""


@dataclass(frozen=True)
class Link:
    """Where an input comes from: output number `slot` of the node `node`."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """One node: its id, its class, and its inputs by name, each a `Link` or a widget's value.

    Ids are those that ComfyUI gives when it executes: a node of a subgraph is `INSTANCE:NODE`.
    `title` is what the user called it, or empty. `unread` are the widgets' values that could not be
    named: all of a class in the UI format, where values are told apart by position only, that is not known, or not
    in the version that the file was saved by. `gives` are the types of its outputs, as far as the file tells.
    `dynamic` are the inputs whose `{a|b}` the editor draws when it sends the graph. `own` is the class as a server
    describes it, where Sosie does not know it.
    """

    id: str
    kind: str
    inputs: Mapping[str, Link | Value] = field(default_factory=lambda: MappingProxyType({}))
    title: str = field(default="", compare=False)
    unread: tuple[Value, ...] = field(default=(), compare=False)
    dynamic: tuple[str, ...] = field(default=(), compare=False)
    own: NodeType | None = field(default=None, compare=False, repr=False)
    gives: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The types of its outputs: of as many as its class or the file tells; none if neither does."""
        known = self.type.outputs if self.type else ()
        return (*known, *self.gives[len(known) :])

    @property
    def type(self) -> NodeType | None:
        """What is known of its class; None for nothing."""
        return self.own or node_type(self.kind)

    def link(self, name: str) -> Link | None:
        """The link of an input; None for a value, or an input that is not there."""
        found = self.inputs.get(name)
        return found if isinstance(found, Link) else None

    @property
    def label(self) -> str:
        """How messages call it: `KSampler 3`."""
        return f"{self.kind[:80]} {self.id[:40]}"


@dataclass(frozen=True)
class Editing:
    """What the editor's file says besides its nodes.

    `blueprint` is the name of the subgraph that the file offers, if it is a blueprint and no workflow. `broadcasts` are
    the nodes that send to inputs without a wire (cg-use-everywhere), `drawn` how many links of theirs were drawn, and
    `undrawn` the types that some of them send to places that only the editor can tell.
    """

    blueprint: str = ""
    broadcasts: tuple[str, ...] = ()
    drawn: int = 0
    undrawn: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Graph:
    """All nodes by id, in the order of the file: what ComfyUI would be sent.

    Notes, reroutes and primitives are gone, subgraphs and group nodes are unfolded, bypassed nodes are
    bridged, muted ones left out. `problems` are links of the file that lead nowhere, after the label of their node.
    """

    nodes: Mapping[str, Node]
    problems: tuple[str, ...] = field(default=(), compare=False)
    editing: Editing = field(default=Editing(), compare=False)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def source(self, node: Node, name: str) -> tuple[Node, int] | None:
        """The node that feeds an input and the number of its output; None if nothing that is there does."""
        link = node.link(name)
        found = self.nodes.get(link.node) if link else None
        return (found, link.slot) if found and link else None

    def of(self, *kinds: str) -> tuple[Node, ...]:
        """The nodes of some classes, in order."""
        return tuple(node for node in self if node.kind in kinds)

    def problems_above(self, *ids: str) -> tuple[str, ...]:
        """The problems of these nodes and of everything that they need."""
        labels = {self.nodes[name].label for name in self.above(*ids)} if self.problems else set[str]()
        return tuple(problem for problem in self.problems if problem.partition(": ")[0] in labels)

    def above(self, *ids: str) -> frozenset[str]:
        """These nodes and everything that they need, by id."""
        seen: set[str] = set()
        open_ = [node for node in ids if node in self.nodes]
        while open_:
            name = open_.pop()
            if name not in seen:
                seen.add(name)
                links = (link for link in self.nodes[name].inputs.values() if isinstance(link, Link))
                open_ += [link.node for link in links if link.node in self.nodes]
        return frozenset(seen)
