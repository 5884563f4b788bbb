"""Checks that every file a recipe names exists, and that its family is known."""

from __future__ import annotations

from sosie.core import Finding, Recipe, Stage
from sosie.core.errors import SosieError, UsageError, nearest
from sosie.core.finding import Rule
from sosie.core.plan import asset_names, needed_stages
from sosie.families import families
from sosie.workspace.library import find_asset
from sosie.workspace.workspace import Workspace

R002 = Rule("SOS-R002", "error", "A file that a recipe names does not exist")
R003 = Rule("SOS-R003", "error", "A recipe's family is not known")
R004 = Rule("SOS-R004", "error", "A name means several files")


def check_assets(workspace: Workspace, recipe: Recipe, stages: tuple[Stage, ...] | None = None) -> list[Finding]:
    """A finding for each missing file (SOS-R002), unknown family (R003) and name that means several files (R004).

    `stages` are those that will run; None: all that the recipe has.
    """
    stages = needed_stages(recipe) if stages is None else stages
    findings: list[Finding] = []
    known = {family.name for family in families()}
    for stage in stages:
        if stage.family not in known:
            message = f"family '{stage.family}' is not known{nearest(stage.family, known)}"
            findings.append(R003.at(recipe.name, message, f"sosie recipe show {recipe.name}"))
    for name in asset_names(stages):
        try:
            find_asset(workspace, name)
        except UsageError as error:
            findings.append(R004.at(recipe.name, error.message, error.hint))
        except SosieError as error:
            findings.append(R002.at(recipe.name, error.message, _hint(recipe, name) or error.hint))
    return findings


def _hint(recipe: Recipe, name: str) -> str:
    """How to get a file of which the recipe says where it comes from, or that the user brings it; empty if neither."""
    file = recipe.source_of(name)
    if file is None:
        return ""
    if file.source:
        return f"it comes from {file.source}: sosie model fetch {recipe.name}"
    return f'the choice is yours: name your file in sosie.toml under [models]: {name} = "PATH"'
