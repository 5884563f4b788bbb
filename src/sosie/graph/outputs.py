"""Which image of a user's graph is its result, where it saves or shows several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sosie.core.errors import UsageError
from sosie.graph.graph import Graph, Link, Node
from sosie.graph.notation import SEEDS
from sosie.graph.settings import listed

SAVERS = ("SaveImage", "SaveImageAdvanced")
SHOWERS = ("PreviewImage",)
"""Nodes whose image can be fetched; one that saves is the result rather than one that shows."""

TEXTS = ("text", "prompt", "text_g", "text_l", "clip_l", "t5xxl")
"""Inputs of nodes with text encoders that hold the prompt."""

OTHER_WORK = {
    **dict.fromkeys(("video", "webm", "webp"), "a film"),
    **dict.fromkeys(("glb", "3d"), "a 3D model"),
    **dict.fromkeys(("text", "any"), "a text"),
    "audio": "a sound",
    "svg": "a drawing of lines",
    "mask": "a mask",
}
"""What a node that ends a graph makes, by a word of its class: nothing that is an image with a face to judge."""

SMALL_WORK = ("a text", "a mask")
"""What is shown by the way, and no one misses."""


@dataclass(frozen=True)
class Output:
    """The node whose image is the result, and what else ends the graph and is not made then.

    `others` are images; `left_out` are films, sounds and the like, where the image is one that a node only shows.
    """

    node: Node
    others: tuple[Node, ...] = ()
    left_out: tuple[Node, ...] = ()


def find_output(graph: Graph) -> str:
    """The id of `choose_output`'s node. Raises as it does."""
    return choose_output(graph).node.id


def choose_output(graph: Graph) -> Output:
    """One that saves before one that shows, the end of the chain before what is on its way.

    Of several ends those that a prompt or a seed acts on, and of these the last in the order of the file. Raises
    `UsageError` for a graph without any.
    """
    saving = list(graph.of(*SAVERS) or graph.of(*SHOWERS) or filter(_may_save, graph))
    if not saving:
        raise UsageError(*_nothing(graph))
    used = graph.above(*(link for node in saving for name in _images(node) for link in _links(graph, name)))
    ends = [node for node in saving if not set(_images(node)) <= used] or saving
    drawn = _below(graph, (node.id for node in graph if _is_asked(node))) if len(ends) > 1 else set[str]()
    chosen = ([node for node in ends if node.id in drawn] or ends)[-1]
    made = _other_work(graph) if chosen.kind in SHOWERS else {}
    left_out = tuple(node for what, nodes in made.items() if what not in SMALL_WORK for node in nodes)
    return Output(chosen, tuple(node for node in ends if node is not chosen), left_out)


def _nothing(graph: Graph) -> tuple[str, str]:
    """What is said of a graph that saves and shows no image: what it makes in its place."""
    made = _other_work(graph)
    if not made:
        return "the graph saves no image", "add a SaveImage node in ComfyUI"
    what = " and ".join(f"{name} ({listed(nodes)})" for name, nodes in made.items())
    return f"the graph makes {what}, and saves no image", "add a SaveImage node in ComfyUI for an image of it"


def _other_work(graph: Graph) -> dict[str, list[Node]]:
    """What a graph makes that is no image, and the nodes that do."""
    made: dict[str, list[Node]] = defaultdict(list)
    for node in graph:
        kind = node.kind.lower()
        word = next((word for word in OTHER_WORK if word in kind), "")
        if word and ("save" in kind or "preview" in kind or "combine" in kind):
            made[OTHER_WORK[word]].append(node)
    return made


def _is_asked(node: Node) -> bool:
    return any(isinstance(node.inputs.get(name), str) for name in TEXTS) or any(name in node.inputs for name in SEEDS)


def _images(node: Node) -> tuple[str, ...]:
    """The nodes that a saving node has its image from."""
    links = {name: value.node for name, value in node.inputs.items() if isinstance(value, Link)}
    named = [origin for name, origin in links.items() if "image" in name.lower()]
    return tuple(named or links.values())


def _links(graph: Graph, name: str) -> list[str]:
    node = graph.nodes.get(name)
    return [value.node for value in node.inputs.values() if isinstance(value, Link)] if node else []


def _below(graph: Graph, names: Iterable[str]) -> set[str]:
    """These nodes and all that need them."""
    users: dict[str, list[str]] = defaultdict(list)
    for node in graph:
        for name in _links(graph, node.id):
            users[name].append(node.id)
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += users[name]
    return seen


def _may_save(node: Node) -> bool:
    """A class that is not known, but called as one that saves images."""
    words = node.kind.lower()
    return node.type is None and "save" in words and "image" in words
