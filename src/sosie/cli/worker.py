"""`sosie worker`: shards of a manifest drawn, and the process that keeps models loaded between commands."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.core.errors import EngineError, UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.engines.shards.pull import Part


@click.group("worker")
def command() -> None:
    """Draw shards of a manifest; show and stop the process that `generate --keep-loaded MINUTES` leaves behind."""


@command.command("draw")
@click.argument("folder", type=PATH)
@click.option("--engine", default="diffusers", show_default=True, help="What renders, as of sosie generate.")
@click.option(
    "--shard",
    default="",
    metavar="K/N",
    help="Only every Nth shard, beginning with K (from 0): for machines that share no folder. Default: what is free.",
)
@click.option("--idle", type=click.FloatRange(0), default=0.0, metavar="MINUTES", help="Wait that long for more plans.")
@click.option("--again", is_flag=True, help="Draw the plans anew that ended with an error.")
@click.option("--memory", default="auto", show_default=True, help="How GPU memory is used, as of sosie generate.")
@common
def draw(folder: Path, output: Output, workspace: Workspace, **flags: Any) -> int:
    """Draw what is left of the manifest in FOLDER (sosie generate --plans FOLDER) that no other machine draws.

    Any number of machines may do so at once, with one folder or copies of it. A machine that is gone leaves its shard
    to the others a quarter of an hour later. With pods or ssh hosts, named with commas, each takes shards of its own.
    Then `sosie generate ... --engine shards:FOLDER` judges and delivers. Exit 1 if a plan ended with an error.
    """
    from sosie.api.many.drawing import ShardOrder, ShardsDone, draw_many
    from sosie.engines.shards.pull import Pulled, Waits
    from sosie.families.contract.draws import Settings

    part, settings = _part(flags["shard"]), Settings(flags["memory"])
    order = ShardOrder(folder, flags["engine"], part, flags["idle"] * 60, flags["again"], settings)
    drawn = failed = 0
    with session(workspace) as opened, output.progress(), closing(draw_many(opened, order)) as events:
        for event in events:
            match event:
                case Pulled(error=None):
                    drawn += not event.in_vain
                    output.line({"plan": event.plan_id, "shard": event.shard}) if output.as_json else None
                case Pulled(error=EngineError() as error):
                    failed += 1
                    output.error(f"plan {event.plan_id[:12]}: {error.message}", error.hint)
                case ShardsDone():
                    output.say(f"{drawn} images were drawn here; {event.done} of {event.plans} plans are done")
                case Waits():
                    pass
                case _:
                    output.event(event)
    return int(failed > 0)


def _part(text: str) -> Part:
    from sosie.engines.shards.pull import Part

    if not text:
        return Part()
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not found or not int(found[1]) < int(found[2]):
        raise UsageError(f"--shard '{text}' is none; expected K/N with K from 0 to N - 1", "--shard 0/8")
    return Part(int(found[1]), int(found[2]))


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
