"""`sosie job`: the queue of work that takes time."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.store.jobs import StoredJob

KINDS = ("generate", "train", "experiment", "dataset", "calibrate", "fetch")


@click.group("job")
def command() -> None:
    """See and change the queue of work that takes time, which the page has too."""


@command.command("add")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("request")
@common
def add(kind: str, request: str, output: Output, workspace: Workspace) -> None:
    """Put a job at the end of the queue; REQUEST is a JSON object, as docs/studio.md describes it.

    sosie job add generate '{"character": "mira", "prompt": "smiling", "n": 4}'
    """
    from sosie.api.jobs.queue import add_job
    from sosie.files.foreign import parse_object

    table = parse_object(request)
    if table is None:
        raise UsageError(f"REQUEST is no JSON object; expected one of a job '{kind}'", "sosie job add --help")
    _show(output, add_job(workspace, kind, table))


@command.command("list")
@click.option("--all", "with_ended", is_flag=True, help="Those that are at their end, too.")
@common
def list_(with_ended: bool, output: Output, workspace: Workspace) -> None:
    """List the jobs that run, wait or were stopped, in the order in which they come."""
    from sosie.api.jobs.queue import list_jobs

    for job in list_jobs(workspace, not with_ended):
        _show(output, job)


@command.command("cancel")
@click.argument("number", metavar="JOB", type=int)
@common
def cancel(number: int, output: Output, workspace: Workspace) -> None:
    """End the job JOB now, whoever works on it; what it has finished stays."""
    from sosie.api.jobs.queue import cancel_job

    _show(output, cancel_job(workspace, number))


@command.command("continue")
@click.argument("number", metavar="JOB", type=int)
@common
def continue_(number: int, output: Output, workspace: Workspace) -> None:
    """Put the job JOB, which was stopped, cancelled or failed, first in the queue: it goes on where it was.

    The page works through the queue while it is served; without it, sosie job run does.
    """
    from sosie.api.jobs.queue import continue_job

    _show(output, continue_job(workspace, number))


@command.command("move")
@click.argument("number", metavar="JOB", type=int)
@click.option("--before", type=int, metavar="JOB", help="The job that it comes before. Default: it comes last.")
@common
def move(number: int, before: int | None, output: Output, workspace: Workspace) -> None:
    """Change the place of the waiting job JOB in the queue."""
    from sosie.api.jobs.queue import move_job

    _show(output, move_job(workspace, number, before))


@command.command("run")
@common
def run(output: Output, workspace: Workspace) -> int:
    """Work through the queue here, one job after the other, and end when it is empty. Exit 1 if a job failed.

    Ctrl-C stops the job that is worked on; sosie job continue goes on with it.
    """
    from sosie.api.jobs.queue import open_jobs
    from sosie.api.jobs.requests import KINDS as EVERY
    from sosie.api.jobs.work import work

    failed = 0
    with session(workspace) as opened, open_jobs(workspace) as jobs:
        while (job := jobs.next(tuple(EVERY))) is not None:
            output.say(f"job {job.id}: {title(job)}")
            with output.progress(), closing(work(opened, job.id)) as events:
                for event in events:
                    output.event(event)
            ended = jobs.get(job.id)
            if ended.state == "failed":
                failed += 1
                output.error(f"job {job.id} failed: {ended.message}", ended.hint)
            _show(output, ended)
    return int(failed > 0)


def title(job: StoredJob) -> str:
    """What a job is, in a few words."""
    asked: dict[str, Any] = job.request
    who = asked.get("character") or ", ".join(asked.get("characters", [])) or asked.get("name") or asked.get("recipe")
    prompt = f": {asked['prompt']}" if asked.get("prompt") else ""
    return f"{job.kind} {who or ''}{prompt}"


def _show(output: Output, job: StoredJob) -> None:
    from sosie.api.lines import json_of

    if output.as_json:
        output.line(json_of(job))
        return
    state = "ending" if job.ending else job.state
    far = f"{100 * job.done / job.total:.0f} %" if job.total and job.state == "running" else "-"
    left = "-" if job.remaining is None else f"{_time(job.remaining)} left"
    output.data("\t".join((str(job.id), state, far, left, title(job), job.message or "-")))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
