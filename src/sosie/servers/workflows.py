"""A user's workflow held against the servers that are to run it; nothing is sent to be rendered."""

from __future__ import annotations

from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError
from sosie.doctor.graph_files import W010, W011, W012
from sosie.doctor.graph_structure import W002, W003, W004, W005
from sosie.doctor.workflows import W001, check_graph
from sosie.engines.comfy.answers import System
from sosie.engines.comfy.catalogue import NodeCatalogue
from sosie.engines.comfy.client import Client
from sosie.engines.comfy.errors import ComfyError
from sosie.engines.comfy.matching import check_system, match
from sosie.engines.comfy.program import CompiledGraph, GraphProgram
from sosie.engines.comfy.server import Server
from sosie.engines.comfy.workflow import used_files
from sosie.graph import Graph, read_workflow
from sosie.graph.to_api import to_api
from sosie.machines.ssh import SshError
from sosie.servers.address import reach
from sosie.workspace.workspace import Workspace

SERVERS = (W002.code, W003.code, W004.code, W005.code, W010.code, W011.code, W012.code)
"""What a server knows better than Sosie's own schema and the folders of this machine."""


def check_on_servers(workspace: Workspace, path: Path, address: str) -> list[Finding]:
    """What each server of an address would refuse of a workflow file, and what is known of it here.

    Raises `UsageError` for an address that is none.
    """
    findings: list[Finding] = []
    try:
        with reach(address, workspace) as servers:
            for one in servers:
                findings += _on_server(workspace, path, one.server)
    except SshError as error:
        findings.append(error.finding(address))
    return list(dict.fromkeys(findings))


def _on_server(workspace: Workspace, path: Path, server: Server) -> list[Finding]:
    client = Client(server)
    try:
        system, catalogue = client.system(), NodeCatalogue(client.object_info())
    except ComfyError as error:
        return [error.finding(server.name)]
    finally:
        client.close()
    try:
        graph = read_workflow(path, catalogue.node)
    except SosieError as error:
        return [W001.at(str(path), error.message, error.hint)]
    here = check_graph(workspace, graph, str(path), workspace.known_table)
    kept = [finding for finding in here if finding.code not in SERVERS]
    if graph.editing.blueprint:
        return kept
    return [
        *check_system(system or System(), GraphProgram(()), server.name),
        *kept,
        *_refused(graph, catalogue, server),
    ]


def _refused(graph: Graph, catalogue: NodeCatalogue, server: Server) -> list[Finding]:
    """What the server would refuse of the nodes that run there: those that end a graph, and all that they need."""
    offers = {node.id: catalogue.node(node.kind) for node in graph}
    ends = [name for name, offer in offers.items() if offer is not None and offer.ends]
    ends = ends or list(graph.nodes)
    above = graph.above(*ends)
    table = {name: entry for name, entry in to_api(graph).items() if name in above}
    problems = graph.problems_above(*ends)
    told = [W004.at(server.name, problem, "draw the link again in ComfyUI") for problem in problems]
    compiled = CompiledGraph(table, ends[-1], files=used_files(graph, above))
    return [*told, *match(compiled, catalogue, server.name).findings]
