"""Everything that can be said of a ComfyUI graph before it runs: its wires, its files, its settings."""

from __future__ import annotations

from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError
from sosie.core.finding import Rule
from sosie.doctor.fit.adapters import check_adapters
from sosie.doctor.fit.outputs import check_outputs
from sosie.doctor.graph_files import GraphFiles, check_files
from sosie.doctor.graph_stages import graph_stages
from sosie.doctor.graph_structure import check_structure
from sosie.doctor.recipes import CHECKS
from sosie.graph import Graph, read_workflow
from sosie.workspace.workspace import Workspace

W001 = Rule("SOS-W001", "error", "A file is no ComfyUI workflow that can be read")


def check_workflow(workspace: Workspace, path: Path, known: Path | None = None) -> list[Finding]:
    """All findings of a workflow file; a file that is none is SOS-W001. Never raises a `SosieError`.

    `known` is the user's table of variants. Model files are looked for in the workspace's model folders.
    """
    try:
        graph = read_workflow(path)
    except SosieError as error:
        return [W001.at(str(path), error.message, error.hint)]
    return check_graph(workspace, graph, str(path), known)


def check_graph(workspace: Workspace, graph: Graph, subject: str, known: Path | None = None) -> list[Finding]:
    """All findings of a graph that is called `subject`, each once."""
    files = GraphFiles(workspace, known)
    findings = [*check_structure(graph, subject), *check_files(graph, files, subject)]
    findings += [*check_outputs(graph, files, subject), *check_adapters(graph, files, subject)]
    for assembly in graph_stages(graph, files, subject):
        findings += [finding for check in CHECKS for finding in check(assembly)]
    return list(dict.fromkeys(findings))
