"""`sosie worker`: the process that keeps models loaded between commands."""

from __future__ import annotations

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.group("worker")
def command() -> None:
    """Show and stop the process that `sosie generate --keep-loaded MINUTES` leaves behind."""


@command.command("status")
@common
def status(output: Output, workspace: Workspace) -> None:
    """Say whether a worker holds models for this workspace, and how long it still will."""
    from sosie.api.resident import worker_status
    from sosie.core.schema import to_table

    found = worker_status(workspace)
    if output.as_json:
        output.line({"running": found is not None, **(to_table(found) if found else {})})
    elif found is None:
        output.say("no worker runs for this workspace")
    else:
        then = "works" if found.ends_in is None else f"ends in {found.ends_in / 60:.1f} minutes"
        output.data(f"{found.pid}\t{found.engine}\t{found.served} images\t{found.waiting} waiting\t{then}")


@command.command("stop")
@common
def stop(output: Output, workspace: Workspace) -> None:
    """End the worker now and free its memory; a command that it works for ends with an error."""
    from sosie.api.resident import stop_worker

    stopped = stop_worker(workspace)
    if output.as_json:
        output.line({"stopped": stopped})
    else:
        output.say("the worker has ended" if stopped else "no worker runs for this workspace")
