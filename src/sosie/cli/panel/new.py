"""`sosie panel new`: the images and pairs that people will see."""

from __future__ import annotations

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("new")
@click.argument("name")
@click.argument("cells", nargs=-1, required=True)
@click.option("--character", required=True, help="Whose references stand above the pairs.")
@click.option("--recipe", default="", help="Whose rules the images are judged by later. Default: the character's.")
@click.option(
    "--question",
    type=click.Choice(["likeness", "skin", "image"]),
    default="likeness",
    show_default=True,
    help="Which is more like the person, which skin is more like skin, or which picture is better.",
)
@click.option("--pairs", default=200, show_default=True, help="At most so many test pairs; checks come beside them.")
@click.option("--seed", default=0, show_default=True, help="Which pairs are drawn.")
@common
def new(name: str, cells: tuple[str, ...], output: Output, workspace: Workspace, **order: object) -> None:
    """Make the panel NAME of two or more CELLS.

    A cell is a folder of images, a run of `generate` (run:NUMBER) or an arm of an experiment (cell:EXPERIMENT:ARM).
    Images are paired by prompt and seed, or by the names of their files. A panel never changes.
    """
    from sosie.api.comparing.panels import NewPanel, PanelOrder, new_panel
    from sosie.api.lines import json_of

    with session(workspace) as opened, output.progress():
        for event in new_panel(opened, PanelOrder(name, cells, **order)):  # pyright: ignore[reportArgumentType]
            output.event(event)
            if not isinstance(event, NewPanel):
                continue
            if output.as_json:
                output.line(json_of(event))
                continue
            output.data(str(event.path))
            tests = sum(pair.kind == "test" for pair in event.panel.pairs)
            checks = len(event.panel.pairs) - tests
            output.say(f"{tests} pairs of {len(event.panel.cells)} cells, and {checks} to see who pays attention")
            output.say(f"let people vote: sosie panel serve {name}")
