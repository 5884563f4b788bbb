"""`sosie model add`: a folder of models for the recipes, or the variant of one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.core.event import Progress
from sosie.core.finding import has_errors
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.model_folders import AddedFile, AddedFolder, AddedRecipe


@click.command("add")
@click.argument("folder", metavar="FOLDER|MODEL")
@click.option(
    "--use",
    "chosen",
    multiple=True,
    metavar="NAME=FILE",
    help="The file that recipes mean by NAME, where several would do: --use sdxl=checkpoints/mine.safetensors.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--variant", help="In place of a folder: which variant MODEL is, for example 'Z-Image Turbo'.")
@common
def add_command(
    folder: str, chosen: tuple[str, ...], dry_run: bool, variant: str | None, output: Output, workspace: Workspace
) -> int:
    """Find what models lie in FOLDER, by their headers, and let recipes use them.

    Each file is named with the places that it fills in recipes; what is broken or not known, with the reason.
    sosie.toml gets the folder, and an entry for each file that is called otherwise than recipes call it; your
    comments and other entries stay. Exit 1 if a file is broken, or several would do for one place.

    With --variant: say once which variant a model is whose header cannot tell. One small tensor is read for its
    fingerprint, kept in known.json of the workspace; files like it are known from then on.
    """
    if variant is not None:
        if chosen or dry_run:
            raise UsageError("--variant says what one model is; --use and --dry-run are for folders", "leave them out")
        return _variant(folder, variant, output, workspace)
    from sosie.api.model_folders import AddedFile, AddedRecipe, add_folder

    worst = 0
    with output.progress():
        for event in add_folder(workspace, Path(folder), dict(map(_use, chosen)), dry_run):
            if isinstance(event, Progress):
                output.event(event)
                continue
            if isinstance(event, AddedFile):
                worst = max(worst, int(has_errors(event.findings)))
            elif isinstance(event, AddedRecipe):
                worst = max(worst, int(bool(event.unclear or event.wrong)))
            _show(event, output, dry_run)
    return worst


def _use(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(f"--use {text} is not NAME=FILE", "--use sdxl=checkpoints/mine.safetensors")
    return name, path


def _variant(name: str, variant: str, output: Output, workspace: Workspace) -> int:
    from sosie.api.models import add_variant

    digest = add_variant(workspace, name, variant)
    if output.as_json:
        output.line({"name": name, "variant": variant, "fingerprint": digest})
    else:
        output.data(f"{digest}\t{variant}")
    return 0


def _show(event: AddedFile | AddedRecipe | AddedFolder, output: Output, dry_run: bool) -> None:
    from sosie.api.lines import json_of
    from sosie.api.model_folders import AddedFile, AddedRecipe

    if output.as_json:
        output.line(json_of(event))
    elif isinstance(event, AddedFile):
        _say_file(event, output)
    elif isinstance(event, AddedRecipe):
        _say_recipe(event, output)
    else:
        _say_end(event, output, dry_run)


def _say_file(file: AddedFile, output: Output) -> None:
    from sosie.doctor.pickles import K012

    output.data(f"{file.name}\t{file.what}")
    places: dict[str, list[str]] = {}
    for place in file.places:
        places.setdefault(f"{place.what} '{place.name}'", []).append(f"{place.recipe} ({place.stage})")
    for what, recipes in places.items():
        output.say(f"  → {what} of {', '.join(dict.fromkeys(recipes))}")
    if file.terms:
        output.say(f"  {file.terms}")
    if file.use:
        output.say(f"  → {file.use}")
    for finding in file.findings:
        output.finding(finding, always=finding.code == K012.code and bool(file.places))


def _say_recipe(recipe: AddedRecipe, output: Output) -> None:
    if recipe.is_whole:
        output.say(f"recipe {recipe.recipe}: all {len(recipe.files)} files are here")
        return
    count = len(recipe.files)
    output.say(f"recipe {recipe.recipe}: {count} {'file is' if count == 1 else 'files are'} here")
    if recipe.missing:
        output.say(f"  missing: {', '.join(recipe.missing)} (sosie model fetch {recipe.recipe})")
    for name, paths in recipe.unclear.items():
        listed = ", ".join(map(str, paths))
        may = f"could be any of {listed}" if paths[1:] else f"may be {listed}: no header tells which variant it is"
        output.say(f"  '{name}' {may}")
        output.say(f'    hint: --use "{name}={next(iter(paths))}"')
    for name, why in recipe.wrong.items():
        output.say(f"  '{name}' is no file that suits: {why}")


def _say_end(added: AddedFolder, output: Output, dry_run: bool) -> None:
    for licence, names in added.licences.items():
        output.say(f"licence that binds: {licence} ({', '.join(names)})")
    if not added.folders and not added.models:
        output.say(f"{added.config} says all of this already")
        return
    output.say(f"{added.config} {'would get' if dry_run else 'has'}:")
    for folder in added.folders:
        output.say(f"  model_folders: {folder}")
    for name, path in added.models.items():
        output.say(f"  [models] {name} = {path}")
