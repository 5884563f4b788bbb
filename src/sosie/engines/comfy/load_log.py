"""What a server's log said when a file was loaded, kept for the images that the loaded file is used for again.

ComfyUI tells of a LoRA that loads nothing once, when its node runs. Later images find the node cached, those of
later runs too: the log is silent, and the LoRA as useless as before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict
from typing import Any

from sosie.core import Finding
from sosie.core.schema import digest
from sosie.engines.comfy.logs import About, LogFinding
from sosie.engines.comfy.program import ApiGraph, inputs_of, link_of
from sosie.graph import node_type


class LoadLog:
    """What is known of the loaders of one server, by what they load; `kept` may outlive the process."""

    def __init__(self, server: str, kept: MutableMapping[str, str]) -> None:
        self._prefix = f"{server} loaded "
        self._kept = kept

    def learn(
        self, graph: ApiGraph, cached: Iterable[str], told: Iterable[LogFinding], is_whole: bool = True
    ) -> tuple[list[LogFinding], list[str]]:
        """Keeps what the log told of the loaders that ran; gives what it told earlier of those that did not.

        The second list names the loaders that were cached before they were ever seen to run. Of a log that is not
        whole only what it tells is kept, and no silence.
        """
        idle, news = set(cached), list(told)
        earlier: list[LogFinding] = []
        unseen: list[str] = []
        for node, (about, signature) in loaders(graph).items():
            key = self._prefix + signature
            mine = [item for item in news if item.about == about]
            if node not in idle and (mine or is_whole):
                self._kept[key] = json.dumps([asdict(item) for item in mine])
            elif node not in idle:
                self._kept.pop(key, None)
            elif key in self._kept:
                earlier += _read(self._kept[key])
            else:
                unseen.append(node)
        return earlier, unseen

    def forget(self) -> None:
        """After the server was made to forget what it had loaded."""
        for key in [key for key in self._kept if key.startswith(self._prefix)]:
            del self._kept[key]


def _read(kept: str) -> list[LogFinding]:
    """What was kept; nothing, where the file that keeps it was damaged."""
    try:
        return [LogFinding(item["about"], Finding(**item["finding"])) for item in json.loads(kept)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


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
