"""`sosie task`: what is to be done, what it may bring, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.group("task")
def command() -> None:
    """Put tasks on record, and bring them up to date."""


def _figures(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a task brings and costs, and what stands in its way."""
    for option in (
        click.option("--blocked-by", help="What stops it."),
        click.option("--experiment", help="The experiment that would close it."),
        click.option("--money", type=float, help="US dollars that it costs."),
        click.option("--hours", type=float, help="Hours until it is done."),
        click.option("--chance", type=float, help="How likely that is, in percent."),
        click.option("--gain", type=float, help="How much of what is missing it would bring, in percent."),
        click.option("--why", help="What it is for."),
    ):
        function = option(function)
    return function


@command.command("add")
@click.argument("title")
@click.option("--character", default="", help="Whom it is about; by default the whole workspace.")
@_figures
@common
def add(title: str, character: str, output: Output, workspace: Workspace, **said: Any) -> None:
    """Put the task TITLE on record. With --gain and --hours the audit ranks it."""
    from sosie.api.knowledge.entries import put
    from sosie.knowledge.days import today
    from sosie.knowledge.task import Task

    with session(workspace) as opened:
        made = put(opened, Task(title, today(), character, **_given(said)))
    _show(output, made)


@command.command("set")
@click.argument("id_", metavar="ID")
@click.option("--state", type=click.Choice(["open", "blocked", "done", "dropped"]), help="What it is now.")
@_figures
@common
def set_(id_: str, output: Output, workspace: Workspace, **said: Any) -> None:
    """Bring the task ID up to date; what it said before stays on record."""
    from dataclasses import replace

    from sosie.api.knowledge.entries import change
    from sosie.core.errors import UsageError
    from sosie.knowledge.task import Task

    given = _given(said)
    if not given:
        raise UsageError(f"nothing was said of task {id_}", f"sosie task set {id_} --state done")
    with session(workspace) as opened:
        made = change(opened, Task, id_, lambda task: replace(task, **given))
    _show(output, made)


@command.command("list")
@click.option("--character", default="", help="Those of a character, and of the whole workspace.")
@click.option("--all", "with_closed", is_flag=True, help="Those that are done or dropped, too.")
@common
def list_(character: str, with_closed: bool, output: Output, workspace: Workspace) -> None:
    """List the tasks that are open or blocked."""
    from sosie.api.knowledge.entries import entries
    from sosie.knowledge.task import Task

    with session(workspace) as opened:
        for one in entries(opened, Task, character):
            if with_closed or one.noun.state in ("open", "blocked"):
                _show(output, one)


def _given(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _show(output: Output, kept: Any) -> None:
    from sosie.api.lines import json_of

    if output.as_json:
        output.line(json_of(kept))
        return
    task = kept.noun
    figures = (
        "-" if task.gain is None else f"{task.gain:g} % x {task.chance:g} %",
        "-" if task.hours is None else f"{task.hours:g} h",
        f"{task.money:g} USD",
    )
    output.data("\t".join((kept.id, task.state, task.title, *figures, task.blocked_by or "-")))
