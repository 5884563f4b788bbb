"""Engines by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Character, Engine
from sosie.core.errors import UsageError, nearest
from sosie.families.contract.draws import Settings
from sosie.workspace.bill import Bill
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from sosie.engines.comfy.program import Compiler
    from sosie.engines.comfy.served import ServedComfy

ENGINES = ("diffusers", "fake", "comfy:URL", "comfy+ssh://USER@HOST:PORT")


def open_engine(
    session: Session,
    name: str,
    bill: Bill,
    character: Character,
    settings: Settings | None = None,
    keep_loaded: float = 0.0,
) -> Engine:
    """The engine of that name for plans of the bill's stages; nothing heavy is loaded before it runs.

    With `keep_loaded` minutes it works in a process that stays that long after its last call, for others to use.
    Raises `UsageError` for a name that is not known, and what keeps a file of the bill from being here.
    """
    if is_comfy(name):
        if keep_loaded:
            raise UsageError("--keep-loaded is for engines on this machine; a ComfyUI server keeps its models itself")
        from sosie.api.comfy_graphs import open_compiler

        return open_comfy(session, name, open_compiler(session, bill))
    if name not in ("fake", "diffusers"):
        raise UsageError(f"engine '{name}' is not known{nearest(name, ENGINES)}", "sosie generate --help")
    files = session.reference_paths(character) if name == "fake" else bill.paths
    if not keep_loaded:
        return make_engine(session, name, files, settings)
    from sosie.engines.resident import ResidentEngine
    from sosie.engines.resident_protocol import Role

    role = Role(str(session.workspace.root.resolve()), name, settings or Settings())
    return ResidentEngine(session.workspace, role, files, keep_loaded)


def make_engine(session: Session, name: str, files: Mapping[str, Path], settings: Settings | None = None) -> Engine:
    """The engine of that name in this process; it looks up in `files` what it reads."""
    if name == "fake":
        from sosie.engines.fake import FakeEngine

        return FakeEngine(files)
    from sosie.api.faces import SessionFaces
    from sosie.engines.diffusers import DiffusersEngine, Supplies

    return DiffusersEngine(Supplies(files, SessionFaces(session, files), session.source_image), settings)


def open_comfy(session: Session, address: str, compiler: Compiler, variant: str = "") -> ServedComfy:
    """The engine on the ComfyUI servers of an address, with these graphs (`engines.comfy.served.Graphs`)."""
    from sosie.engines.comfy.served import Graphs, open_served
    from sosie.servers.address import HINT
    from sosie.servers.doctor import with_doctors
    from sosie.servers.stamps import Stamps

    if address == "comfy":
        raise UsageError("engine 'comfy' needs an address", HINT)
    stamps = Stamps(session.workspace.state / "comfy-files.json")
    graphs = Graphs(compiler, partial(with_doctors, session.workspace), stamps, variant)
    return open_served(address, graphs, session.source_image)


def is_comfy(engine: str) -> bool:
    """Whether an engine's name is the address of ComfyUI servers, which have files of their own."""
    return engine == "comfy" or engine.startswith(("comfy:", "comfy+ssh:"))
