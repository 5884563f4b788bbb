"""Engines by name, and the digests of what they will read."""

from __future__ import annotations

from sosie.api.session import Session
from sosie.core import Character, Engine, Recipe
from sosie.core.errors import UsageError, nearest
from sosie.core.plan import asset_names
from sosie.core.workspace import Workspace
from sosie.files.digest import asset_digest
from sosie.files.library import find_asset

ENGINES = ("diffusers", "fake")


def open_engine(session: Session, name: str, recipe: Recipe, character: Character) -> Engine:
    """The engine of that name; nothing heavy is loaded before it runs."""
    if name == "fake":
        from sosie.engines.fake import FakeEngine

        return FakeEngine(session.reference_paths(character))
    if name == "diffusers":
        from sosie.engines.diffusers import DiffusersEngine

        paths = {asset: find_asset(session.workspace, asset) for asset in asset_names(recipe)}
        return DiffusersEngine(paths, session.guide_embedding)
    raise UsageError(f"engine '{name}' is not known{nearest(name, ENGINES)}", "sosie generate --help")


def resolve_assets(workspace: Workspace, recipe: Recipe) -> dict[str, str]:
    """The SHA-256 of every file that a recipe names."""
    return {name: asset_digest(find_asset(workspace, name)) for name in asset_names(recipe)}
