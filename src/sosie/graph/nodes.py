"""The classes of nodes that Sosie knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from sosie.graph import core_nodes, pack_nodes
from sosie.graph.notation import NodeType, Pack, read_notation

TEXTS: tuple[tuple[Pack, str], ...] = (
    ("core", core_nodes.LOADERS),
    ("core", core_nodes.MODELS),
    ("core", core_nodes.CONDITIONING),
    ("core", core_nodes.SAMPLING),
    ("core", core_nodes.LATENTS),
    ("core", core_nodes.IMAGES),
    ("core", core_nodes.VALUES),
    ("InstantID", pack_nodes.INSTANTID),
    ("IPAdapter plus", pack_nodes.IPADAPTER),
    ("Impact Pack", pack_nodes.IMPACT),
    ("Ultimate SD Upscale", pack_nodes.ULTIMATE),
)

PACKS: Mapping[Pack, str] = MappingProxyType(
    {
        "InstantID": "https://github.com/cubiq/ComfyUI_InstantID",
        "IPAdapter plus": "https://github.com/cubiq/ComfyUI_IPAdapter_plus",
        "Impact Pack": "https://github.com/ltdrdata/ComfyUI-Impact-Pack (with its Subpack)",
        "Ultimate SD Upscale": "https://github.com/ssitu/ComfyUI_UltimateSDUpscale",
    }
)
"""Where a pack of custom nodes comes from."""


@cache
def node_types() -> Mapping[str, NodeType]:
    """Every known class by its name."""
    found = [kind for pack, text in TEXTS for kind in read_notation(text, pack)]
    return MappingProxyType({kind.name: kind for kind in found})


def node_type(name: str) -> NodeType | None:
    """A class by its name, or None if it is not known."""
    return node_types().get(name)
