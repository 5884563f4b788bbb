"""What can be done with recipes but for drawing: copying one to edit it, and checking one."""

from __future__ import annotations

from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import DeliveryError, SosieError, UsageError
from sosie.core.finding import Rule
from sosie.core.plan import needed_stages
from sosie.doctor.recipes import check_recipe as check
from sosie.doctor.training import check_training
from sosie.files.whole import make_folder, whole_stream
from sosie.workspace.bill import resolve
from sosie.workspace.recipes import find_recipe, load_recipe, recipe_text
from sosie.workspace.workspace import Workspace, check_name

R001 = Rule("SOS-R001", "error", "A recipe is not valid")


def copy_recipe(workspace: Workspace, name: str, new_name: str) -> Path:
    """Copies a recipe into the workspace under a new name, to be edited; never overwrites."""
    new_name = check_name(new_name)
    text = recipe_text(find_recipe(workspace, name).path)
    target = workspace.recipes / f"{new_name}.toml"
    try:
        make_folder(target.parent)
        with whole_stream(target, overwrite=False) as stream:
            stream.write(text.replace(f'name = "{name}"', f'name = "{new_name}"', 1).encode())
    except FileExistsError:
        hint = f"sosie recipe copy {name} OTHER-NAME"
        raise UsageError(f"recipe '{new_name}' exists already: {target}", hint) from None
    except OSError as error:
        raise DeliveryError(f"{target} could not be written: {error.strerror or error}", "free some space") from None
    return target


def check_recipe(workspace: Workspace, name: str) -> list[Finding]:
    """Everything that keeps a recipe from running here, or that is worth knowing of it, found in one go."""
    try:
        recipe = load_recipe(workspace, name)
    except SosieError as error:
        return [R001.at(name, error.message, error.hint)]
    return [*check(recipe, resolve(workspace, needed_stages(recipe))), *check_training(recipe)]
