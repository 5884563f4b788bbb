"""Engines by their addresses, given what a session's workspace has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Character, Engine
from sosie.core.errors import UsageError
from sosie.engines import scheme_of
from sosie.engines.scheme import Supplies
from sosie.families.contract.draws import Settings
from sosie.workspace.bill import Bill
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from sosie.engines.comfy.program import Compiler
    from sosie.engines.comfy.reach import Graphs
    from sosie.engines.comfy.workflow import Workflow


def open_engine(
    session: Session,
    address: str,
    bill: Bill,
    character: Character,
    settings: Settings | None = None,
    keep_loaded: float = 0.0,
) -> Engine:
    """The engine of that address for plans of the bill's stages; nothing heavy is loaded before it runs.

    With `keep_loaded` minutes it works in a process that stays that long after its last call, for others to use.
    Raises `UsageError` for an engine that is not known, and what keeps a file of the bill from being here.
    """
    scheme = scheme_of(address)
    if scheme.is_remote and keep_loaded:
        raise UsageError("--keep-loaded is for engines on this machine; a ComfyUI server keeps its models itself")
    if scheme.runs_graphs:
        from sosie.api.comfy_graphs import open_compiler

        return open_graphs(session, address, open_compiler(session, bill))
    paths: Mapping[str, Path] = {}
    if scheme.reads != "nothing":
        paths = bill.paths if scheme.reads == "models" else session.reference_paths(character)
    if not keep_loaded:
        return make_engine(session, address, paths, settings)
    from sosie.engines.resident import ResidentEngine
    from sosie.engines.resident_protocol import Role

    role = Role(str(session.workspace.root.resolve()), address, settings or Settings())
    return ResidentEngine(session.workspace, role, paths, keep_loaded)


def open_graphs(session: Session, address: str, compiler: Compiler, variant: str = "") -> Engine:
    """The engine of that address with ComfyUI graphs that this compiler makes (`engines.comfy.reach.Graphs`).

    Raises `UsageError` for an engine that runs no graphs.
    """
    if not scheme_of(address).runs_graphs:
        raise UsageError(f"engine '{address}' runs no ComfyUI graphs", "add --engine comfy:http://127.0.0.1:8188")
    from sosie.engines.comfy.reach import Graphs
    from sosie.servers.doctor import with_doctors
    from sosie.servers.stamps import Stamps

    stamps = Stamps(session.workspace.state / "comfy-files.json")
    graphs = Graphs(compiler, partial(with_doctors, session.workspace), stamps, variant)
    return make_engine(session, address, {}, None, graphs)


def open_users_workflow(path: Path, changes: Sequence[str], address: str) -> Workflow:
    """A workflow file of the user's for the servers of an address, which name the inputs of classes unknown here.

    Raises `UsageError` for an engine that runs no graphs, and what `open_workflow` raises.
    """
    if not scheme_of(address).runs_graphs:
        hint = "add --engine comfy:http://127.0.0.1:8188"
        raise UsageError(f"engine '{address}' runs no ComfyUI workflows", hint)
    from sosie.engines.comfy.workflow import open_workflow
    from sosie.servers.kinds import ServedKinds

    return open_workflow(path, changes, ServedKinds(address))


def make_engine(
    session: Session,
    address: str,
    paths: Mapping[str, Path],
    settings: Settings | None = None,
    graphs: Graphs | None = None,
) -> Engine:
    """The engine of that address in this process; it looks up in `paths` what it reads."""
    from sosie.api.faces import SessionFaces

    faces, source = SessionFaces(session, paths), session.source_image
    return scheme_of(address).open(address, Supplies(paths, faces, source, settings or Settings(), graphs))
