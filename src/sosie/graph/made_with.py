"""What a graph would draw, in the words of a prompt's settings: what can be asked for again without the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sosie.core.errors import UsageError
from sosie.graph.attach import find_seeds, find_size, find_texts
from sosie.graph.graph import Graph, Node
from sosie.graph.outputs import find_output
from sosie.graph.sampling import SAMPLERS

_OWN = {theirs: own for own, theirs in SAMPLERS.items()}
_FILES = ("ckpt_name", "unet_name", "lora_name", "vae_name", "clip_name", "control_net_name", "model_name")


@dataclass(frozen=True)
class MadeWith:
    """Settings by the names of `workspace.prompts.settings`, as text, and what has no place among them."""

    values: Mapping[str, str]
    unused: tuple[tuple[str, str], ...] = ()


def made_with(graph: Graph) -> MadeWith:
    """The settings of the image that a graph saves. What is not clear in the graph is left out, and said.

    Raises `UsageError` for a graph without an image.
    """
    output = find_output(graph)
    values: dict[str, str] = {}
    unused: list[tuple[str, str]] = []
    for side, name in (("positive", "prompt"), ("negative", "negative_prompt")):
        try:
            place = find_texts(graph, output, side)[0]  # type: ignore[arg-type]
            values[name] = str(graph.nodes[place.node].inputs[place.input])
        except UsageError as error:
            if side == "positive":
                unused.append((name, error.message))
    seeds = {str(graph.nodes[place.node].inputs[place.input]): None for place in find_seeds(graph, output)}
    if seeds:
        values["seed"], *others = seeds
        unused += [("seed", other) for other in others]
    if (size := find_size(graph, output)) is not None:
        values["size"] = f"{size[0]}x{size[1]}"
    above = graph.above(output)
    nodes = [node for node in graph if node.id in above]
    for name, value in _sampling(nodes):
        if name in values:
            unused.append((name, value))
        else:
            values[name] = value
    unused += list(_files(nodes))
    return MadeWith(values, tuple(dict.fromkeys(unused)))


def _sampling(nodes: list[Node]) -> Iterator[tuple[str, str]]:
    """Of nodes that sample, of those that only choose a sampler, and of those that lay the levels."""
    for node in nodes:
        for name, own in (("steps", "steps"), ("cfg", "cfg"), ("sampler_name", "sampler"), ("scheduler", "schedule")):
            value: Any = node.inputs.get(name)
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                text = f"{value:g}" if isinstance(value, float) else str(value)
                yield own, _OWN.get(text, text) if own == "sampler" else text


def _files(nodes: list[Node]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        for name, value in node.inputs.items():
            if name.rstrip("0123456789") in _FILES and isinstance(value, str):
                yield name, value
