"""`sosie model`: list and show."""

from __future__ import annotations

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.core.workspace import Workspace


@click.group("model")
def command() -> None:
    """List and show models."""


@command.command("list")
@common
def list_(output: Output, workspace: Workspace) -> None:
    """Name every model that recipes of this workspace can use."""
    from sosie.api.models import list_models

    for model in list_models(workspace):
        if output.as_json:
            output.line(
                {"name": model.name, "source": model.source, "licence": model.licence or None, "summary": model.summary}
            )
        else:
            output.data(f"{model.name}\t{model.source}\t{model.licence or 'licence unknown'}\t{model.summary}")
