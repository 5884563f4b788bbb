"""`sosie audit`: everything on record about a character, as a page, as Markdown and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("audit")
@click.argument("character")
@click.option(
    "--language",
    type=click.Choice(["en", "fr"]),
    default="en",
    show_default=True,
    help="Of its headings and sentences.",
)
@click.option(
    "--out", type=PATH, help="The folder for audit.html, audit.md and audit.json; default: outputs/CHARACTER/audit."
)
@click.option(
    "--hour",
    type=float,
    default=1.0,
    show_default=True,
    help="US dollars that an hour counts as, where next steps are ranked.",
)
@common
def command(character: str, language: Any, out: Path | None, hour: float, output: Output, workspace: Workspace) -> int:
    """Write the audit of CHARACTER from the record: what works, what does not and why, what it cost, what is next.

    Decisions are looked at again first; exit 1 if one is in doubt.
    """
    from sosie.api.knowledge.audit import write_audit
    from sosie.api.lines import json_of

    with session(workspace) as opened:
        made = write_audit(opened, character, language, out, hour)
    for finding in made.findings:
        output.finding(finding)
    if output.as_json:
        output.line(json_of(made))
    else:
        for path in (made.html, made.markdown, made.json):
            output.data(str(path))
    return int(bool(made.findings))
