"""Engines by name, and the digests of what they will read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sosie.core import Character, Engine, Stage
from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.core.plan import asset_names
from sosie.families.contract.draws import Settings
from sosie.files.digest import asset_digest
from sosie.workspace.library import find_asset
from sosie.workspace.session import Session
from sosie.workspace.workspace import Workspace

ENGINES = ("diffusers", "fake", "comfy:URL", "comfy+ssh://USER@HOST:PORT")


def open_engine(
    session: Session,
    name: str,
    stages: tuple[Stage, ...],
    character: Character,
    settings: Settings | None = None,
    keep_loaded: float = 0.0,
) -> Engine:
    """The engine of that name for plans of these stages; nothing heavy is loaded before it runs.

    With `keep_loaded` minutes it works in a process that stays that long after its last call, for others to use.
    """
    if is_comfy(name):
        if keep_loaded:
            raise UsageError("--keep-loaded is for engines on this machine; a ComfyUI server keeps its models itself")
        from sosie.api.comfy import open_comfy
        from sosie.api.comfy_graphs import open_compiler

        return open_comfy(session, name, open_compiler(session, stages))
    files = engine_files(session, name, stages, character)
    if not keep_loaded:
        return make_engine(session, name, files, settings)
    from sosie.engines.resident import ResidentEngine
    from sosie.engines.resident_protocol import Role

    role = Role(str(session.workspace.root.resolve()), name, settings or Settings())
    return ResidentEngine(session.workspace, role, files, keep_loaded)


def engine_files(session: Session, name: str, stages: tuple[Stage, ...], character: Character) -> dict[str, Path]:
    """What the engine of that name reads for these stages: where it is, by the name that it is asked by."""
    if name == "fake":
        return session.reference_paths(character)
    if name == "diffusers":
        return {asset: find_asset(session.workspace, asset) for asset in asset_names(stages)}
    raise UsageError(f"engine '{name}' is not known{nearest(name, ENGINES)}", "sosie generate --help")


def make_engine(session: Session, name: str, files: Mapping[str, Path], settings: Settings | None = None) -> Engine:
    """The engine of that name in this process; it looks up in `files` what it reads."""
    if name == "fake":
        from sosie.engines.fake import FakeEngine

        return FakeEngine(files)
    from sosie.api.faces import SessionFaces
    from sosie.engines.diffusers import DiffusersEngine, Supplies

    return DiffusersEngine(Supplies(files, SessionFaces(session), session.source_image), settings)


def is_comfy(engine: str) -> bool:
    """Whether an engine's name is the address of ComfyUI servers, which have files of their own."""
    return engine == "comfy" or engine.startswith(("comfy:", "comfy+ssh:"))


def resolve_assets(workspace: Workspace, stages: tuple[Stage, ...], engine: str = "") -> dict[str, str]:
    """The SHA-256 of every file that stages name; empty for one that only the engine's servers may have."""
    return {name: _digest(workspace, name, is_comfy(engine)) for name in asset_names(stages)}


def _digest(workspace: Workspace, name: str, may_be_remote: bool) -> str:
    try:
        return asset_digest(find_asset(workspace, name))
    except (NotFoundError, UsageError):
        if may_be_remote:
            return ""
        raise
