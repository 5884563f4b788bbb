"""The classes of nodes that Sosie knows: ComfyUI's own, those of popular packs, and what families bring.

A class is read from its short form when it is first asked for: there are more than a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from sosie.core.errors import ConfigError
from sosie.graph.notation import CORE, NodeType, blocks, class_name, read_class


@dataclass(frozen=True)
class NodePack:
    """Classes of nodes that come together, in the short form of `notation`, and where they come from.

    `used` says that Sosie's own graphs may hold them.
    """

    name: str
    address: str
    text: str
    used: bool = True


SHIPPED = {"core_nodes.txt": True, "pack_nodes.txt": True, "more_packs.txt": False}
"""Files of classes: of ComfyUI's own, of the packs that Sosie uses (`NodePack.used`), and of others.

A line `= NAME = ADDRESS` begins a pack. The first two are written by `scripts/node_schema.py` from what a server says.
"""

_sources: list[Callable[[], Iterable[NodePack]]] = []


def bring(source: Callable[[], Iterable[NodePack]]) -> None:
    """Adds packs of another room to the schema; they are asked for when it is next read."""
    _sources.append(source)
    forget()


def forget() -> None:
    """Reads the schema again when it is next asked for."""
    _packs.cache_clear()
    node_types.cache_clear()


@cache
def _packs() -> tuple[NodePack, ...]:
    return (*_shipped(), *(pack for source in _sources for pack in source()))


@cache
def _shipped() -> tuple[NodePack, ...]:
    found: list[NodePack] = []
    for name, used in SHIPPED.items():
        text = (files(__package__ or "sosie.graph") / name).read_text("utf-8")
        for section in re.split(r"(?m)^= ", text)[1:]:
            head, _, body = section.partition("\n")
            pack, _, address = head.partition(" = ")
            found.append(NodePack(pack, "" if pack == CORE else address, body, used))
    return tuple(found)


def packs() -> Mapping[str, str]:
    """Where every pack of custom nodes comes from, by its name."""
    return MappingProxyType({pack.name: pack.address for pack in _packs() if pack.name != CORE})


def used_packs() -> Mapping[str, tuple[str, ...]]:
    """The packs that Sosie's own graphs may need, with their classes."""
    used = (pack for pack in _packs() if pack.used and pack.name != CORE)
    return MappingProxyType({pack.name: tuple(map(class_name, blocks(pack.text))) for pack in used})


class Schema(Mapping[str, NodeType]):
    """Classes by their names, each read when it is asked for."""

    def __init__(self, written: Mapping[str, tuple[str, str]]) -> None:
        self._written = written
        self._read: dict[str, NodeType] = {}

    def __getitem__(self, name: str) -> NodeType:
        if name not in self._read:
            block, pack = self._written[name]
            self._read[name] = read_class(block, pack)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)


@cache
def node_types() -> Mapping[str, NodeType]:
    """Every known class by its name. Raises `ConfigError` for one that two packs describe differently."""
    written: dict[str, tuple[str, str]] = {}
    for pack in _packs():
        for block in blocks(pack.text):
            name = class_name(block)
            other, other_pack = written.setdefault(name, (block, pack.name))
            if other != block and _says(other) != _says(block):
                raise ConfigError(f"packs '{other_pack}' and '{pack.name}' describe node '{name}' differently")
    return Schema(written)


def _says(block: str) -> tuple[object, ...]:
    kind = read_class(block, "")
    return kind.inputs, kind.outputs


def node_type(name: str) -> NodeType | None:
    """A class by its name, or None if it is not known."""
    return node_types().get(name)
