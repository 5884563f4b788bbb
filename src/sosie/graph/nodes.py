"""The classes of nodes that Sosie knows: ComfyUI's own, four packs, and what families bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from sosie.core.errors import ConfigError
from sosie.graph import core_nodes, pack_nodes
from sosie.graph.notation import CORE, NodeType, read_notation


@dataclass(frozen=True)
class NodePack:
    """Classes of nodes that come together, in the short form of `notation`, and where they come from."""

    name: str
    address: str
    text: str


SHIPPED = (
    *(
        NodePack(CORE, "", text)
        for text in (
            core_nodes.LOADERS,
            core_nodes.MODELS,
            core_nodes.CONDITIONING,
            core_nodes.SAMPLING,
            core_nodes.LATENTS,
            core_nodes.IMAGES,
            core_nodes.VALUES,
        )
    ),
    NodePack("InstantID", "https://github.com/cubiq/ComfyUI_InstantID", pack_nodes.INSTANTID),
    NodePack("IPAdapter plus", "https://github.com/cubiq/ComfyUI_IPAdapter_plus", pack_nodes.IPADAPTER),
    NodePack("Impact Pack", "https://github.com/ltdrdata/ComfyUI-Impact-Pack (with its Subpack)", pack_nodes.IMPACT),
    NodePack("Ultimate SD Upscale", "https://github.com/ssitu/ComfyUI_UltimateSDUpscale", pack_nodes.ULTIMATE),
)

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
    return (*SHIPPED, *(pack for source in _sources for pack in source()))


def packs() -> Mapping[str, str]:
    """Where every pack of custom nodes comes from, by its name."""
    return MappingProxyType({pack.name: pack.address for pack in _packs() if pack.name != CORE})


@cache
def node_types() -> Mapping[str, NodeType]:
    """Every known class by its name. Raises `ConfigError` for one that two packs describe differently."""
    found: dict[str, NodeType] = {}
    for pack in _packs():
        for kind in read_notation(pack.text, pack.name):
            other = found.setdefault(kind.name, kind)
            if (other.inputs, other.outputs) != (kind.inputs, kind.outputs):
                raise ConfigError(f"packs '{other.pack}' and '{pack.name}' describe node '{kind.name}' differently")
    return MappingProxyType(found)


def node_type(name: str) -> NodeType | None:
    """A class by its name, or None if it is not known."""
    return node_types().get(name)
