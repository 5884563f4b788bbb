"""What the places of a user's own graph are for: its prompts, seeds, size, and the node that saves the result.

Found by following wires, as ComfyUI does, never by what a node happens to be called. Where the graph leaves a
choice, nothing is guessed: the error names the candidates and how to say which (`Pins`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from sosie.core import Plan
from sosie.core.errors import UsageError
from sosie.graph.build import Place
from sosie.graph.dynamic_prompts import draw_prompt, has_choices, is_dynamic
from sosie.graph.graph import Graph, Link, Node
from sosie.graph.notation import MAX_SEED, SEEDS, Input, fits
from sosie.graph.outputs import TEXTS, find_output
from sosie.graph.settings import Pins, listed

EXPORT = "in ComfyUI: Workflow > Export (API), and run that file"

Side = Literal["positive", "negative"]

SMALL_SEED = 2**32
"""What a seed of a class that is not in the schema stays below: many take no more."""


@dataclass(frozen=True)
class Attached:
    """A graph with a plan's seed and prompt in it, and the node whose image is the result.

    `drawn` are the texts whose choices (`{a|b}`) the plan's seed has drawn.
    """

    graph: Graph
    output: str
    drawn: Mapping[Place, str] = field(default_factory=dict[Place, str])


def attach(graph: Graph, plan: Plan, pins: Pins | None = None) -> Attached:
    """Puts the plan's seed into the graph, its texts where it has any, its size where one was asked for.

    What the result does not need is left out. Choices in the file's own texts are drawn as its editor would, by the
    plan's seed. Raises `UsageError` if the graph cannot be run, or where it is not clear what a place is for.
    """
    pins = pins or Pins()
    output = pins.output or find_output(graph)
    expect_runnable(graph, output)
    changes = dict(_seeds(graph, output, plan, pins))
    texts: tuple[tuple[Side, str, Place | None], ...] = (
        ("positive", plan.prompt, pins.prompt),
        ("negative", plan.negative_prompt, pins.negative),
    )
    for side, text, pin in texts:
        if text:
            changes |= dict.fromkeys((pin,) if pin else find_texts(graph, output, side), text)
    asked = plan.requested
    if asked.width is not None and asked.height is not None and not asked.source:
        changes |= _size(graph, output, (plan.width, plan.height), pins)
    texts_left = {at: text for at, text in dynamic_texts(graph, output).items() if at not in changes}
    drawn = {at: draw_prompt(text, f"{plan.seed} {at.node} {at.input}") for at, text in texts_left.items()}
    choices = {at: drawn[at] for at, text in texts_left.items() if has_choices(text)}
    return Attached(needed(_changed(graph, {**changes, **drawn}), output), output, choices)


def dynamic_texts(graph: Graph, output: str) -> dict[Place, str]:
    """The texts that the editor would not send as they are: with choices to draw, or with comments."""
    return {
        Place(node.id, name): text
        for node in _running(graph, output)
        for name in node.dynamic
        if isinstance(text := node.inputs.get(name), str) and is_dynamic(text)
    }


def expect_runnable(graph: Graph, output: str) -> None:
    """Raises `UsageError` for a graph that lost something on its way from the editor's format."""
    if problems := graph.problems_above(output):
        raise UsageError(f"the graph is not whole: {problems[0]}", EXPORT)
    running = list(_running(graph, output))
    if unread := [node for node in running if node.unread]:
        message = f"the editor's file names no inputs, and these classes are not known here: {listed(unread)}"
        raise UsageError(message, f"start a server that has them, or {EXPORT}")
    if fed := [node for node in running if any(is_fed(graph, entry) for entry in missing_links(node))]:
        message = f"only the editor can tell what feeds {listed(fed)}: cg-use-everywhere sends it by groups or colours"
        raise UsageError(message, "in ComfyUI: right-click the canvas, Convert all UEs to real links, and save")


def missing_links(node: Node) -> Iterator[Input]:
    """The links that a node needs and has not."""
    for entry in node.type.takes(node.inputs) if node.type else ():
        if entry.required and not entry.is_widget and entry.name not in node.inputs:
            yield entry


def is_fed(graph: Graph, entry: Input) -> bool:
    """Whether a pack may feed an input when the editor sends the graph, in a way that cannot be told here."""
    return any(fits(carries, entry.type) for carries in graph.editing.undrawn)


def find_texts(graph: Graph, output: str, side: Side) -> tuple[Place, ...]:
    """The places of the positive or negative prompt. Several with different texts are one too many."""
    given = _conditioned(graph, output, side)
    nodes = list(dict.fromkeys(found for node, name in given for found in _up(graph, node, name)))
    word = "prompt" if side == "positive" else "negative"
    if not nodes:
        hint = f'say where it stands: --set "{word}=NODE.input", or leave it out'
        raise UsageError(f"no {side} prompt was found in the graph", hint)
    places = {graph.nodes[name].id: tuple(_text_places(graph, graph.nodes[name])) for name in nodes}
    texts = {tuple(graph.nodes[at.node].inputs.get(at.input) for at in found) for found in places.values()}
    if len(texts) > 1 or not all(places.values()):
        many = listed(graph.nodes[name] for name in nodes)
        shown = next((found[0] for found in places.values() if found), Place(nodes[0], "text"))
        why = "several nodes hold" if len(nodes) > 1 else "it is not clear which input holds"
        raise UsageError(f"{why} the {side} prompt: {many}", f'say which: --set "{word}={shown.node}.{shown.input}"')
    return tuple(dict.fromkeys(at for found in places.values() for at in found))


def find_seeds(graph: Graph, output: str) -> tuple[Place, ...]:
    """Where the seeds stand, in the order of the graph."""
    found: dict[Place, None] = {}
    for node in _running(graph, output):
        kind = node.type
        names = [entry.name for entry in kind.widgets if entry.is_seed] if kind else SEEDS
        for name in names:
            place = _value_place(graph, node, name, int) if name in node.inputs else None
            if place is not None:
                found[place] = None
    return tuple(found)


def _seeds(graph: Graph, output: str, plan: Plan, pins: Pins) -> Iterator[tuple[Place, int]]:
    """The plan's seed for every place; places that held different ones get different ones, derived from it."""
    places = (pins.seed,) if pins.seed else find_seeds(graph, output)
    if not places:
        message = "the graph has no seed, so that every attempt would give the same image"
        raise UsageError(message, 'say where one stands: --set "seed=NODE.input"')
    held: list[Any] = []
    for place in places:
        node = graph.nodes[place.node]
        value = node.inputs.get(place.input)
        if value not in held:
            held.append(value)
        seed = plan.stage_seed(held.index(value))
        kind = node.type
        entry = kind.input(place.input) if kind else None
        # A bound is a float and may lie above every seed: the remainder is exact all the same.
        yield place, seed % (int(entry.high or MAX_SEED) + 1 if entry else SMALL_SEED)


def find_size(graph: Graph, output: str) -> tuple[int, int] | None:
    """Width and height of what is drawn from noise; None if no node or more than one holds them."""
    places = _size_places(graph, output)
    sides: list[Any] = [graph.nodes[place.node].inputs[place.input] for place in places]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _size_places(graph: Graph, output: str) -> list[Place]:
    """Where width and height stand, in this order; fewer than two if that is not clear."""
    empty = [node for node in _running(graph, output) if _draws_from_noise(node)]
    if len(empty) != 1:
        return []
    return [at for name in ("width", "height") if (at := _value_place(graph, empty[0], name, int)) is not None]


def _size(graph: Graph, output: str, size: tuple[int, int], pins: Pins) -> dict[Place, int]:
    if pins.width and pins.height:
        return {pins.width: size[0], pins.height: size[1]}
    places = _size_places(graph, output)
    if len(places) != 2 or (places[0] == places[1] and size[0] != size[1]):
        empty = [node for node in _running(graph, output) if _draws_from_noise(node)]
        found = f"; those that could are {listed(empty)}" if empty else ""
        hint = 'say where it stands: --set "width=NODE.input" --set "height=NODE.input", or leave the size out'
        raise UsageError(f"it is not clear which inputs hold the size of the image{found}", hint)
    return dict(zip(places, size, strict=True))


def _draws_from_noise(node: Node) -> bool:
    kind = node.type
    return bool(kind and kind.outputs == ("LATENT",) and kind.input("width") and kind.input("batch_size"))


def _conditioned(graph: Graph, output: str, side: Side) -> Iterator[tuple[Node, str]]:
    """The inputs by which nodes are given the prompt of a side."""
    for node in _running(graph, output):
        if node.link(side):
            yield node, side
        elif side == "positive" and node.kind == "BasicGuider":
            yield node, "conditioning"


def _up(graph: Graph, node: Node, name: str) -> Iterator[str]:
    """The ids of the nodes that encode what an input is given, on every way up to them."""
    seen: set[tuple[str, int]] = set()
    waiting = [node.link(name)]
    while waiting:
        link = waiting.pop()
        if link is None or (link.node, link.slot) in seen or link.node not in graph.nodes:
            continue
        seen.add((link.node, link.slot))
        source = graph.nodes[link.node]
        if source.kind == "ConditioningZeroOut":
            continue
        if source.link("clip") and any(text in source.inputs for text in TEXTS):
            yield source.id
        else:
            waiting += [source.link(entry) for entry in _passing(source, link.slot)]


def _passing(node: Node, slot: int) -> list[str]:
    """The inputs that feed an output of conditioning; of a pair, the first output is the positive's."""
    kind = node.type
    if node.link("positive") and node.link("negative"):
        places = [i for i, gives in enumerate(kind.outputs) if gives == "CONDITIONING"] if kind else [0, 1]
        return ["negative" if slot in places and places.index(slot) == 1 else "positive"]
    if kind is None:
        return [name for name in node.inputs if "cond" in name.lower() or name in ("positive", "negative")]
    return [entry.name for entry in kind.inputs if entry.type in ("CONDITIONING", "*")]


def _text_places(graph: Graph, node: Node) -> Iterator[Place]:
    for name in TEXTS:
        place = _value_place(graph, node, name, str) if name in node.inputs else None
        if place is not None:
            yield place


def _value_place(graph: Graph, node: Node, name: str, type_: type) -> Place | None:
    """Where the value of an input stands: in it, or in the node that it is linked to, if that only holds a value."""
    seen: set[str] = set()
    while node.id not in seen:
        seen.add(node.id)
        link = node.link(name)
        if link is None:
            value = node.inputs.get(name)
            return Place(node.id, name) if isinstance(value, type_) and not isinstance(value, bool) else None
        source = graph.nodes.get(link.node)
        values = [key for key, value in source.inputs.items() if isinstance(value, type_ | Link)] if source else []
        if source is None or len(source.inputs) != 1 or len(values) != 1:
            return None
        node, name = source, values[0]
    return None


def _running(graph: Graph, output: str) -> Iterator[Node]:
    above = graph.above(output)
    return (node for node in graph if node.id in above)


def needed(graph: Graph, output: str) -> Graph:
    """The graph of what a node needs, and of that node."""
    above = graph.above(output)
    return dataclasses.replace(graph, nodes={name: node for name, node in graph.nodes.items() if name in above})


def _changed(graph: Graph, changes: dict[Place, Any]) -> Graph:
    nodes = dict(graph.nodes)
    for place, value in changes.items():
        node = nodes[place.node]
        nodes[place.node] = dataclasses.replace(node, inputs=MappingProxyType({**node.inputs, place.input: value}))
    return dataclasses.replace(graph, nodes=MappingProxyType(nodes))
