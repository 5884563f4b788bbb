"""The classes of nodes that show a face to a model, as identity guides bring them: how one reads them in a graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

Loaded = tuple[str, str]
"""An input that takes a link, and the input of the node at its other end that names a file; an empty one: of itself."""


@dataclass(frozen=True)
class GuideNode:
    """A class of nodes by which a guide acts.

    `off` are the inputs that say how much it acts, each with the value at which it does not; None: what is plugged in
    there is to be unplugged. `guide` is the kind of guide that the node is on a model's way, and `scale` the input that
    is its scale (empty: it is not read as a guide). `weights`, `encoder` (of faces), `image_encoder` and `controlnet`
    lead to what it works with.

    `pack` is the pack of InsightFace that it reads, and downloads while it runs if it is not there; an input
    `model_name` says otherwise. With `nests` that download lands one folder too deep, and stops the node. `is_loader`:
    it only loads, and to turn it off takes out nobody. `any_image`: it takes images of anything, and is a guide of
    faces only if its weights' name says so.
    """

    kind: str
    off: tuple[tuple[str, float | bool | None], ...]
    guide: str = ""
    scale: str = ""
    weights: Loaded | None = None
    encoder: Loaded | None = None
    image_encoder: Loaded | None = None
    controlnet: Loaded | None = None
    is_loader: bool = False
    any_image: bool = False
    pack: str = ""
    nests: bool = False

    @property
    def dials(self) -> tuple[str, ...]:
        """The inputs that say how much it acts."""
        return tuple(name for name, value in self.off if value is not None)


_sources: list[Callable[[], Iterable[GuideNode]]] = []


def bring_guides(source: Callable[[], Iterable[GuideNode]]) -> None:
    """Adds the nodes of guides of another room; they are asked for when they are next needed."""
    _sources.append(source)
    forget_guides()


def forget_guides() -> None:
    """Asks for all nodes again when they are next needed."""
    _guide_nodes.cache_clear()


def guide_node(kind: str) -> GuideNode | None:
    """The class of that name, or None if no guide acts by it."""
    return _guide_nodes().get(kind)


def face_pack(kind: str, inputs: Mapping[str, object]) -> str:
    """The pack of InsightFace that a node of that class and those inputs reads; empty for other nodes.

    A name with other letters than those of packs counts for nothing: it is no way to another folder.
    """
    guide = guide_node(kind)
    if guide is None or not guide.pack:
        return ""
    named = inputs.get("model_name")
    if not isinstance(named, str):
        return guide.pack
    return named if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", named) else ""


@cache
def _guide_nodes() -> Mapping[str, GuideNode]:
    """By class; of two guides that bring the same class, the first counts."""
    found: dict[str, GuideNode] = {}
    for source in _sources:
        for node in source():
            found.setdefault(node.kind, node)
    return MappingProxyType(found)
