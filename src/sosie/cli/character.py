"""`sosie character`: to a file and from one, and other words for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sosie.cli.options import PATH, common, declaration, declared, session
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace


@click.group("character")
def command() -> None:
    """Change what is said of characters; write them to files, and take them in from files."""


@command.command("export")
@click.argument("character")
@click.argument("file", type=PATH, required=False)
@click.option("--with-loras", is_flag=True, help="Carry the LoRAs too; without, they are named by their digests.")
@common
def export(character: str, file: Path | None, output: Output, workspace: Workspace, with_loras: bool) -> int:
    """Write CHARACTER to FILE: declaration, description, references, calibration.

    FILE is CHARACTER.sosie by default. One that ends in .char is for OpenChar: references and description alone.
    """
    from sosie.api.character_files import export_character
    from sosie.api.lines import json_of

    done = export_character(workspace, character, file or Path(f"{character}.sosie"), with_loras)
    if output.as_json:
        output.line(json_of(done))
        return 0
    output.say(f"✓ {character}: {done.references} references, {done.calibration} calibrations, {done.loras} LoRAs")
    if done.left:
        output.say(f"not in it: {', '.join(done.left)}")
    output.data(str(done.path))
    return 0


@command.command("import")
@click.argument("file", type=PATH)
@click.option("--as", "name", default="", metavar="NAME", help="Another name for the character than the file's.")
@declaration
@click.option("--description", default="", help="What a prompt says of them, in place of a .char file's words.")
@common
def import_(file: Path, output: Output, workspace: Workspace, name: str, **details: Any) -> int:
    """Make a character of FILE, which `sosie character export` or OpenChar wrote.

    A .sosie file holds the declaration of likeness and age; a .char file does not, so it is asked for, and its
    references are checked as those of `sosie new` are. Exit 1 for findings.
    """
    from sosie.api.character_files import is_char_file

    if is_char_file(file):
        return _of_char(file, output, workspace, name, details)
    if given := [flag for flag in ("likeness", "adult", "description") if details[flag]]:
        raise UsageError(f"--{given[0]} is for .char files; {file} brings its own", "leave it out")
    return _of_archive(file, output, workspace, name)


@command.command("edit")
@click.argument("character")
@click.option("--description", help="What a prompt says of them.")
@click.option("--mark", "marks", multiple=True, help="A distinguishing mark, in place of those there; repeatable.")
@click.option("--no-marks", is_flag=True, help="Take the marks away.")
@common
def edit(
    character: str,
    output: Output,
    workspace: Workspace,
    description: str | None,
    marks: tuple[str, ...],
    no_marks: bool,
) -> int:
    """Give CHARACTER another description or other marks.

    Images that are drawn from now on have them; a calibration by the old words says so.
    """
    from sosie.api.characters import edit_character

    if marks and no_marks:
        raise UsageError("--mark and --no-marks exclude each other", "leave one out")
    now = edit_character(workspace, character, description, marks if marks or no_marks else None)
    if output.as_json:
        output.line({"character": now.name, "description": now.description, "marks": list(now.marks)})
    else:
        output.say(f"✓ {now.name}: {now.prompt_description or 'no description'}")
    return 0


def _of_archive(file: Path, output: Output, workspace: Workspace, name: str) -> int:
    from sosie.api.character_files import import_character
    from sosie.api.lines import json_of

    made = import_character(workspace, file, name)
    if output.as_json:
        output.line(json_of(made))
        return int(bool(made.left))
    who = made.character
    output.say(f"✓ {who.name}: {len(who.references)} references, {len(who.loras)} LoRAs")
    output.say(f"declared by who made the file: {who.likeness}, adult")
    for path, digest in made.left:
        output.say(f"not here: {path}, whose weights have the digest {digest[:16]}")
    output.data(str(made.folder))
    return int(bool(made.left))


def _of_char(file: Path, output: Output, workspace: Workspace, name: str, details: dict[str, Any]) -> int:
    from sosie.api.character_files import import_char
    from sosie.api.lines import json_of
    from sosie.workspace.characters import CharacterFile

    likeness, adult = declared(details["likeness"], details["adult"])
    with session(workspace) as opened:
        made = import_char(opened, file, CharacterFile(name, likeness, adult, details["description"]))
    for finding in (*made.report.findings, *made.judging):
        output.finding(finding, always=True)
    if output.as_json:
        output.line(json_of(made))
    else:
        output.say(f"✓ {made.character.name}: {len(made.character.references)} of {made.offered} references are good")
        output.data(str(made.folder))
    return int(any(finding.severity != "info" for finding in made.report.findings))
