"""`sosie new`: a character from reference images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sosie.cli.options import PATH, common, declaration, declared, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("new")
@click.argument("character")
@click.argument("images", nargs=-1, required=True, type=PATH)
@declaration
@click.option("--description", help="What a prompt says of them: 'a young woman, auburn braided hair'.")
@click.option("--trigger", default="", help="The token that a character LoRA was trained on.")
@click.option("--mark", "marks", multiple=True, help="A distinguishing mark; may be given several times.")
@click.option("--recipe", default="", help="The character's default recipe.")
@click.option(
    "--replace", is_flag=True, help="Replace a character of that name; its LoRAs, calibration and dataset stay."
)
@common
def command(
    character: str, images: tuple[Path, ...], output: Output, workspace: Workspace, replace: bool, **details: Any
) -> int:
    """Make CHARACTER from reference IMAGES, or those of a folder.

    Each image is checked (one face, size, sharpness, duplicates, other people); what would do
    harm is left out, with the reason.
    """
    from sosie.api.characters import new_character
    from sosie.workspace.characters import CharacterFile

    likeness, adult = declared(details["likeness"], details["adult"])
    description = details["description"]
    if description is None:
        description = click.prompt("Description for prompts", default="", err=True) if sys.stdin.isatty() else ""
    file = CharacterFile(
        character, likeness, adult, description, details["trigger"], tuple(details["marks"]), details["recipe"]
    )
    with session(workspace) as opened:
        made = new_character(opened, file, images, replace)
    for finding in (*made.report.findings, *made.judging):
        output.finding(finding, always=True)
    kept = len(made.character.references)
    if output.as_json:
        from sosie.api.lines import json_of

        output.line(json_of(made))
    else:
        output.say(f"✓ {character}: {kept} of {made.offered} images became references")
        output.data(str(made.folder))
    return 1 if any(finding.severity != "info" for finding in made.report.findings) else 0
