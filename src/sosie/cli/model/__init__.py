"""`sosie model`: list, show, add, fetch, convert and strip."""

from __future__ import annotations

from pathlib import Path

import click

from sosie.cli.model.add import add_command
from sosie.cli.model.convert import convert_command
from sosie.cli.model.fetch import fetch_command
from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.group("model")
def command() -> None:
    """List, show, add, fetch, convert and strip models."""


@command.command("list")
@common
def list_(output: Output, workspace: Workspace) -> None:
    """Name every model that recipes of this workspace can use."""
    from sosie.api.models import list_models

    for model in list_models(workspace):
        if output.as_json:
            from sosie.api.lines import json_of

            output.line(json_of(model))
        else:
            output.data(f"{model.name}\t{model.source}\t{model.licence or 'licence unknown'}\t{model.summary}")


@command.command("show")
@click.argument("names", nargs=-1, required=True)
@common
def show(names: tuple[str, ...], output: Output, workspace: Workspace) -> int:
    """Say what models are, from their headers: a name, a path, or MODEL:FILE.

    Exit 1 if one is broken, unknown or ambiguous.
    """
    from sosie.api.models import show_model
    from sosie.core.schema import to_table
    from sosie.families import terms_of
    from sosie.files.model_file import Known

    worst = 0
    for name in names:
        path, found = show_model(workspace, name)
        answer = type(found).__name__.lower()
        worst = max(worst, int(not isinstance(found, Known)))
        if output.as_json:
            terms = {"terms": terms_of(found.model)} if isinstance(found, Known) else {}
            details = (
                to_table(found.model) | terms if isinstance(found, Known) else {"path": path, "message": found.message}
            )
            output.line({"name": name, "answer": answer, **details, "path": str(path)})
        else:
            output.data(found.message)
            if isinstance(found, Known) and (terms := terms_of(found.model)):
                output.say(f"  {terms}")
    return worst


@command.command("strip")
@click.argument("model", type=PATH)
@click.argument("out", type=PATH)
@common
def strip(model: Path, out: Path, output: Output, workspace: Workspace) -> None:
    """Write the header of MODEL to OUT, without any weight: names, shapes, dtypes.

    A few kilobytes in place of gigabytes, to be attached to a bug report.
    """
    from sosie.api.models import strip_model

    header = strip_model(workspace, model, out)
    if output.as_json:
        output.line({"path": str(model), "out": str(out), "tensors": len(header.tensors)})
    else:
        output.data(str(out))


command.add_command(add_command)
command.add_command(convert_command)
command.add_command(fetch_command)
