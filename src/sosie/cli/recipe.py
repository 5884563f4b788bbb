"""`sosie recipe`: list, show, copy and check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.comfy_graphs import GraphExport


@click.group("recipe")
def command() -> None:
    """List, show, copy and check recipes."""


@command.command("list")
@common
def list_(output: Output, workspace: Workspace) -> None:
    """Name every recipe, the workspace's own and the shipped ones."""
    from sosie.workspace.recipes import list_recipes, read_recipe

    for name, file in list_recipes(workspace).items():
        origin = "shipped" if file.shipped else "workspace"
        if output.as_json:
            output.line(
                {"name": name, "path": str(file.path), "origin": origin, "summary": read_recipe(file.path).summary}
            )
        else:
            output.data(f"{name}\t{origin}\t{read_recipe(file.path).summary}")


@command.command("show")
@click.argument("name")
@click.option(
    "--as",
    "form",
    type=click.Choice(["toml", "comfy", "comfy-ui"]),
    default="toml",
    show_default=True,
    help="comfy: the ComfyUI graph in the API format; comfy-ui: a workflow that its editor opens.",
)
@click.option("--character", help="Whose LoRAs and description the graph has; a placeholder's by default.")
@click.option("--prompt", help="What the graph draws; a placeholder by default.")
@click.option("--face-detailer", is_flag=True, help="Faces by Impact Pack's FaceDetailer: one graph that runs alone.")
@common
def show(name: str, output: Output, workspace: Workspace, **options: Any) -> int:
    """Print a recipe: its TOML, with --json what it resolves to, or as a ComfyUI graph."""
    from sosie.core.schema import to_table
    from sosie.workspace.recipes import find_recipe, load_recipe, recipe_text

    if options["form"] != "toml":
        return _show_graph(name, output, workspace, options)
    given = [f"--{key.replace('_', '-')}" for key in ("character", "prompt", "face_detailer") if options[key]]
    if given:
        raise UsageError(f"{given[0]} says what a graph shows", "add --as comfy, or --as comfy-ui")
    if output.as_json:
        output.line(to_table(load_recipe(workspace, name)))
    else:
        output.data(recipe_text(find_recipe(workspace, name).path).rstrip("\n"), lines=True)
    return 0


def _show_graph(name: str, output: Output, workspace: Workspace, options: dict[str, Any]) -> int:
    """Prints a recipe's graph, and on stderr what Sosie does around it. Exit 1 if ComfyUI cannot run the recipe."""
    from sosie.api.comfy_graphs import GraphRequest, show_graph
    from sosie.families.contract.graphs import GraphChoices
    from sosie.workspace.characters import load_character
    from sosie.workspace.recipes import load_recipe

    who = load_character(workspace, options["character"]) if options["character"] else None
    choices = GraphChoices(faces="server" if options["face_detailer"] else "sosie")
    wanted = GraphRequest(options["form"], who, options["prompt"], choices)
    shown = show_graph(workspace, load_recipe(workspace, name), wanted)
    for finding in shown.findings:
        output.finding(finding)
    if not shown.table:
        return 1
    for sentence in _around(shown):
        output.say(sentence)
    output.document(shown.table, None if output.as_json else 2)
    return 0


def _around(shown: GraphExport) -> Iterator[str]:
    """What is to be known of a graph that is run by hand."""
    if len(shown.parts) > 1:
        kinds = "; ".join(" + ".join(part) for part in shown.parts)
        yield f"{len(shown.parts)} graphs stand beside each other, which Sosie sends one after another: {kinds}"
    if shown.pictures:
        yield f"pictures that Sosie uploads before a run: {', '.join(shown.pictures)}"
    for asset in shown.unknown:
        yield f"'{asset}' stands for a file of yours: name it in sosie.toml, [models], {asset} = \"PATH\""


@command.command("copy")
@click.argument("name")
@click.argument("new_name")
@common
def copy(name: str, new_name: str, output: Output, workspace: Workspace) -> None:
    """Copy recipe NAME into the workspace as NEW_NAME, to be edited."""
    from sosie.api.recipes import copy_recipe

    path = copy_recipe(workspace, name, new_name)
    output.line({"name": new_name, "path": str(path)}) if output.as_json else output.data(str(path))


@command.command("check")
@click.argument("names", nargs=-1)
@common
def check(names: tuple[str, ...], output: Output, workspace: Workspace) -> int:
    """Check recipes (all of them by default) without running anything. Exit 1 if something is wrong."""
    from sosie.api.lines import json_of
    from sosie.api.recipes import check_recipe
    from sosie.workspace.recipes import list_recipes

    worst = 0
    for name in names or tuple(list_recipes(workspace)):
        findings = check_recipe(workspace, _stem(name))
        for finding in findings:
            output.finding(finding)
        worst = max(worst, int(any(finding.severity != "info" for finding in findings)))
        if output.as_json:
            output.line({"recipe": name, "findings": [json_of(finding) for finding in findings]})
        elif all(finding.severity == "info" for finding in findings):
            output.data(f"{name}\tok")
    return worst


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(".toml") else name
