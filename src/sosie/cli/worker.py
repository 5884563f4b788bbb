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
    """Say whether workers hold models for this workspace (one a card with --devices), and how long they still will."""
    from sosie.api.resident import worker_status
    from sosie.core.schema import to_table

    found = worker_status(workspace)
    if not found and output.as_json:
        output.line({"running": False})
    elif not found:
        output.say("no worker runs for this workspace")
    for one in found:
        if output.as_json:
            output.line({"running": True, **to_table(one)})
            continue
        then = "works" if one.ends_in is None else f"ends in {one.ends_in / 60:.1f} minutes"
        card = f"\tcard {one.card}" if one.card else ""
        output.data(f"{one.pid}\t{one.engine}\t{one.served} images\t{one.waiting} waiting\t{then}{card}")


@command.command("stop")
@common
def stop(output: Output, workspace: Workspace) -> None:
    """End the workers now and free their memory; a command that they work for ends with an error."""
    from sosie.api.resident import stop_worker

    stopped = stop_worker(workspace)
    if output.as_json:
        output.line({"stopped": stopped > 0})
    elif stopped > 1:
        output.say(f"{stopped} workers have ended")
    else:
        output.say("the worker has ended" if stopped else "no worker runs for this workspace")
