"""`sosie score`: images of any origin against a character."""

from __future__ import annotations

from pathlib import Path

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.cli.table import table
from sosie.core import Finding
from sosie.workspace.workspace import Workspace


@click.command("score")
@click.argument("images", nargs=-1, required=True, type=PATH)
@click.option("--character", required=True, help="Whom the images are to show.")
@click.option("--recipe", "recipe_name", help="Whose rules and cohort apply. Default: the character's, else mini.")
@common
def command(
    images: tuple[Path, ...], character: str, recipe_name: str | None, output: Output, workspace: Workspace
) -> int:
    """Judge IMAGES, of any origin, against a character.

    Exit 1 if one does not pass, or is not an image.
    """
    from sosie.api.lines import json_of
    from sosie.api.scoring import F001, Judged, score
    from sosie.workspace.characters import load_character
    from sosie.workspace.recipes import load_recipe

    whom = load_character(workspace, character)
    recipe = load_recipe(workspace, recipe_name or whom.recipe or "mini")
    judged: list[Judged] = []
    bad = 0
    with session(workspace) as opened, output.progress():
        for event in score(opened, images, whom, recipe):
            output.event(event)
            if isinstance(event, Finding):
                bad += event.code == F001.code
            if not isinstance(event, Judged):
                continue
            judged.append(event)
            if output.as_json:
                output.line(json_of(event))
            else:
                output.data(f"{event.image}\t{event.verdict.outcome}\t{'; '.join(event.verdict.reasons)}")
    if judged and not output.quiet and not output.as_json:
        output.console.print(table([(item.image.name, item.scorecard, item.verdict, None) for item in judged]))
    return 1 if bad or any(item.verdict.outcome != "keep" for item in judged) else 0
