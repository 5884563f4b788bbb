"""Engines by name, and the digests of what they will read."""

from __future__ import annotations

from sosie.api.session import Session
from sosie.core import Character, Engine, Stage
from sosie.core.errors import UsageError, nearest
from sosie.core.plan import asset_names
from sosie.core.workspace import Workspace
from sosie.families import Settings
from sosie.files.digest import asset_digest
from sosie.files.library import find_asset

ENGINES = ("diffusers", "fake")


def open_engine(
    session: Session, name: str, stages: tuple[Stage, ...], character: Character, settings: Settings | None = None
) -> Engine:
    """The engine of that name for plans of these stages; nothing heavy is loaded before it runs."""
    if name == "fake":
        from sosie.engines.fake import FakeEngine

        return FakeEngine(session.reference_paths(character))
    if name == "diffusers":
        from sosie.api.faces import SessionFaces
        from sosie.engines.diffusers import DiffusersEngine, Supplies

        paths = {asset: find_asset(session.workspace, asset) for asset in asset_names(stages)}
        return DiffusersEngine(Supplies(paths, SessionFaces(session), session.source_image), settings)
    raise UsageError(f"engine '{name}' is not known{nearest(name, ENGINES)}", "sosie generate --help")


def resolve_assets(workspace: Workspace, stages: tuple[Stage, ...]) -> dict[str, str]:
    """The SHA-256 of every file that stages name."""
    return {name: asset_digest(find_asset(workspace, name)) for name in asset_names(stages)}
