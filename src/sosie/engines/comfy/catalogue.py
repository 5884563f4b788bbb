"""What a server offers: its classes of nodes, read from `/object_info` when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sosie.graph import NodeType
from sosie.graph.object_info import read_object_info


class NodeCatalogue:
    """All that a server offers. A class is read when it is asked for: a server has a thousand."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        self.node = lru_cache(maxsize=None)(self._read)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(self._info)

    def _read(self, name: str) -> NodeType | None:
        """A class by its name, or None if the server lacks it."""
        return read_object_info(name, self._info[name]) if name in self._info else None
