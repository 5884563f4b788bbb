"""What can be done with recipes but for drawing: copying one to edit it, and checking one."""

from __future__ import annotations

from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError, UsageError
from sosie.core.finding import Rule
from sosie.core.plan import needed_stages
from sosie.doctor.recipes import check_recipe as check
from sosie.doctor.training import check_training
from sosie.files.whole import write_whole
from sosie.workspace.bill import resolve
from sosie.workspace.recipes import find_recipe, load_recipe, recipe_text
from sosie.workspace.workspace import Workspace, check_name

R001 = Rule("SOS-R001", "error", "A recipe is not valid")


def copy_recipe(workspace: Workspace, name: str, new_name: str) -> Path:
    """Copies a recipe into the workspace under a new name, to be edited; never overwrites."""
    check_name(new_name)
    text = recipe_text(find_recipe(workspace, name).path)
    target = workspace.recipes / f"{new_name}.toml"
    if target.exists():
        raise UsageError(f"recipe '{new_name}' exists already: {target}", f"sosie recipe copy {name} OTHER-NAME")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, text.replace(f'name = "{name}"', f'name = "{new_name}"', 1))
    return target


def check_recipe(workspace: Workspace, name: str) -> list[Finding]:
    """Everything that keeps a recipe from running here, or that is worth knowing of it, found in one go."""
    try:
        recipe = load_recipe(workspace, name)
    except SosieError as error:
        return [R001.at(name, error.message, error.hint)]
    return [*check(recipe, resolve(workspace, needed_stages(recipe))), *check_training(recipe)]
