"""Classes of nodes that Sosie does not know, as the servers of an address describe them."""

from __future__ import annotations

from functools import cached_property

from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.graph import NodeType
from sosie.servers.address import reach
from sosie.workspace.workspace import Workspace


class ServedKinds:
    """A class by its name, as `sosie.graph.notation.Kinds`; the servers are asked when the first one is looked for."""

    def __init__(self, address: str, workspace: Workspace) -> None:
        self._address = address
        self._workspace = workspace

    def __call__(self, name: str) -> NodeType | None:
        """The class, or None if no server has it. Raises `ComfyError` where none of them can be asked."""
        found = (catalogue.node(name) for catalogue in self._catalogues)
        return next((kind for kind in found if kind is not None), None)

    @cached_property
    def _catalogues(self) -> tuple[NodeCatalogue, ...]:
        read: list[NodeCatalogue] = []
        lost: list[ComfyError] = []
        with reach(self._address, self._workspace) as servers:
            for one in servers:
                client = Client(one.server)
                try:
                    read.append(NodeCatalogue(client.object_info()))
                except ComfyError as error:
                    lost.append(error)
                finally:
                    client.close()
        if not read and lost:
            raise lost[0]
        return tuple(read)
