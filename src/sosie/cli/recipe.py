"""`sosie recipe`: list, show, copy and check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.core.workspace import Workspace


@click.group("recipe")
def command() -> None:
    """List, show, copy and check recipes."""


@command.command("list")
@common
def list_(output: Output, workspace: Workspace) -> None:
    """Name every recipe, the workspace's own and the shipped ones."""
    from sosie.api.recipes import list_recipes, read_recipe

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
@common
def show(name: str, output: Output, workspace: Workspace) -> None:
    """Print a recipe: its TOML, or with --json what it resolves to."""
    from sosie.api.recipes import find_recipe, load_recipe
    from sosie.core.schema import to_table

    if output.as_json:
        output.line(to_table(load_recipe(workspace, name)))
    else:
        output.data(find_recipe(workspace, name).path.read_text(encoding="utf-8").rstrip("\n"))


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
    from sosie.api.recipes import check_recipe, list_recipes

    worst = 0
    for name in names or tuple(list_recipes(workspace)):
        findings = check_recipe(workspace, _stem(name))
        for finding in findings:
            output.finding(finding)
        worst = max(worst, int(any(finding.severity != "info" for finding in findings)))
        if output.as_json:
            rows: list[dict[str, Any]] = [
                {"code": f.code, "severity": f.severity, "message": f.message, "hint": f.hint} for f in findings
            ]
            output.line({"recipe": name, "findings": rows})
        elif all(finding.severity == "info" for finding in findings):
            output.data(f"{name}\tok")
    return worst


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(".toml") else name
