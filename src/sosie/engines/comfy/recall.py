"""What a server's log said when a file was loaded, kept for the images that the loaded file is used for again.

ComfyUI tells of a LoRA that loads nothing once, when its node runs. Later images find the node cached: the
log is silent, and the LoRA as useless as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sosie.core.schema import digest
from sosie.engines.comfy.logs import About, Told
from sosie.engines.comfy.program import ApiGraph, inputs_of, link_of
from sosie.files.workflow import node_type


class Recall:
    """What is known of the loaders of one server, by what they load."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Told, ...]] = {}

    def learn(self, graph: ApiGraph, cached: Iterable[str], told: Iterable[Told]) -> tuple[list[Told], list[str]]:
        """Keeps what the log told of the loaders that ran; gives what it told earlier of those that did not.

        The second list names the loaders that were cached before they were ever seen to run.
        """
        kept, news = set(cached), list(told)
        earlier: list[Told] = []
        unseen: list[str] = []
        for node, (about, signature) in loaders(graph).items():
            if node not in kept:
                self._told[signature] = tuple(item for item in news if item.about == about)
            elif signature in self._told:
                earlier += self._told[signature]
            else:
                unseen.append(node)
        return earlier, unseen

    def forget(self) -> None:
        """After the server was made to forget what it had loaded."""
        self._told.clear()


def loaders(graph: ApiGraph) -> dict[str, tuple[About, str]]:
    """The nodes that load model files: what of, and a digest of all that they load from."""
    found: dict[str, tuple[About, str]] = {}
    for node, entry in graph.items():
        kind = node_type(str(entry.get("class_type")))
        if kind is not None and kind.files:
            about: About = "lora" if any(file.folder == "loras" for file in kind.files) else "model"
            found[node] = (about, digest(_above(graph, node, frozenset())))
    return found


def _above(graph: ApiGraph, node: str, seen: frozenset[str]) -> Any:
    """A node and all that it needs, without the ids."""
    entry: Mapping[str, Any] = graph.get(node, {})
    if node in seen:
        return None
    inputs: dict[str, Any] = {}
    for name, value in inputs_of(entry).items():
        link = link_of(value)
        inputs[name] = [_above(graph, link[0], seen | {node}), link[1]] if link else value
    return [entry.get("class_type"), inputs]
