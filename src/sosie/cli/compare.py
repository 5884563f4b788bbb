"""`sosie compare`: two images, folders, runs or cells of an experiment, in pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option("--character", default="", help="Whom the images are to show. Default: whom the runs or cells show.")
@click.option("--recipe", default="", help="Whose rules and cohort apply. Default: the character's, else mini.")
@click.option("--out", type=PATH, default=Path("comparison.html"), show_default=True, help="The page to look at.")
@click.option("--no-page", is_flag=True, help="Only the figures.")
@click.option(
    "--language",
    type=click.Choice(["en", "fr"]),
    default="en",
    show_default=True,
    help="Of page and figures.",
)
@common
def command(a: str, b: str, no_page: bool, out: Path, output: Output, workspace: Workspace, **order: Any) -> None:
    """Compare A with B: images, folders of images, runs (run:NUMBER) or cells (cell:EXPERIMENT:ARM).

    Images are paired by prompt and seed, or by the names of their files, and measured alike; an encoder that guided any
    of them does not judge. The page has every pair under a slider, flickering, and its faces at one scale.
    """
    from sosie.api.comparing.sentences import in_words, notes
    from sosie.api.comparing.sides import Compared, CompareOrder, compare
    from sosie.api.lines import json_of

    with session(workspace) as opened, output.progress():
        for event in compare(opened, CompareOrder(a, b, out=None if no_page else out, **order)):
            output.event(event)
            if not isinstance(event, Compared):
                continue
            if output.as_json:
                output.line(json_of(event))
                continue
            output.data("score\tA\tB\tB - A (95 % interval)\tpairs\t")
            for row in event.comparison.rows:
                line = in_words(row, order["language"])
                output.data("\t".join((line.name, line.a, line.b, line.difference, line.pairs, line.note)))
            for note in notes(event.comparison, order["language"]):
                output.say(note)
            if event.page:
                output.data(str(event.page))
