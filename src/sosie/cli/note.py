"""`sosie note`: what was read, tried and rented."""

from __future__ import annotations

from typing import Any

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

CHARACTER = click.option("--character", default="", help="Whom it is about; by default the whole workspace.")
DATE = click.option("--date", default="", metavar="YYYY-MM-DD", help="The day; today by default.")


@click.group("note")
def command() -> None:
    """Put on record what was read, tried by hand, and rented."""


@command.command("add")
@click.argument("text")
@CHARACTER
@click.option("--source", default="", help="Where it comes from: an address, a file, a person's role.")
@DATE
@click.option("--expires", default="", metavar="YYYY-MM-DD", help="The last day on which it may be believed.")
@click.option("--about", default="", help="Its topic; 'training 4' for what training run 4 taught.")
@common
def add(output: Output, workspace: Workspace, date: str, **said: Any) -> None:
    """Put the note TEXT on record."""
    from sosie.knowledge.days import today
    from sosie.knowledge.note import Note

    _put(output, workspace, Note(date=date or today(), **said))


@command.command("tried")
@click.argument("component")
@CHARACTER
@click.option("--setting", default="", help="How it was tried: 'weight 0.7'.")
@click.option("--result", required=True, help="What came of it.")
@click.option("--outcome", type=click.Choice(["works", "fails", "unclear"]), required=True, help="In one word.")
@click.option("--series", default="", help="The question that several tries ask.")
@click.option("--cause", default="", help="Why it failed, where that is known.")
@click.option("--measured-by", default="", help="The judge or check that gave the figure; without one it is an eye's.")
@click.option("--value", type=float, help="The figure.")
@click.option("--interval", type=(float, float), metavar="LOW HIGH", help="Its 95 % interval.")
@DATE
@common
def tried(output: Output, workspace: Workspace, date: str, interval: tuple[float, float] | None, **said: Any) -> None:
    """Put on record what came of trying COMPONENT by hand."""
    from sosie.knowledge.days import today
    from sosie.knowledge.trial import Trial

    low, high = interval or (None, None)
    _put(output, workspace, Trial(date=date or today(), low=low, high=high, **said))


@command.command("rented")
@click.argument("label")
@CHARACTER
@click.option("--gpu", required=True, help="Its card.")
@click.option("--price", type=float, required=True, help="US dollars an hour.")
@click.option("--provider", default="", help="Who rents it out.")
@click.option("--place", default="", help="Where it stands.")
@click.option("--started", default="", help="A day, or a time with its zone; today by default.")
@click.option("--ended", default="", help="The same; empty while it is paid for.")
@click.option("--hours", type=float, help="The hours that were billed.")
@click.option("--use", default="", help="What it was rented for.")
@click.option("--problem", "problems", multiple=True, help="What broke; may be given several times.")
@common
def rented(output: Output, workspace: Workspace, started: str, **said: Any) -> None:
    """Put a rented machine on record, or what is new of the one with that LABEL."""
    from sosie.api.knowledge.entries import change, entries, put
    from sosie.knowledge.days import today
    from sosie.knowledge.rental import Rental

    with session(workspace) as opened:
        known = next((one for one in entries(opened, Rental) if one.noun.label == said["label"]), None)
        rental = Rental(started=started or (known.noun.started if known else today()), **said)
        made = put(opened, rental) if known is None else change(opened, Rental, known.id, lambda _: rental)
    _show(output, made)


@command.command("list")
@CHARACTER
@common
def list_(character: str, output: Output, workspace: Workspace) -> int:
    """List notes, trials and rented machines. Exit 1 if a note has expired."""
    from sosie.api.knowledge.entries import entries, expired
    from sosie.knowledge.note import Note
    from sosie.knowledge.rental import Rental
    from sosie.knowledge.trial import Trial

    with session(workspace) as opened:
        notes = entries(opened, Note, character)
        others = (*entries(opened, Trial, character), *entries(opened, Rental, character))
    old = expired(notes)
    for finding in old:
        output.finding(finding)
    for one in (*notes, *others):
        _show(output, one)
    return int(bool(old))


def _put(output: Output, workspace: Workspace, noun: Any) -> None:
    from sosie.api.knowledge.entries import put

    with session(workspace) as opened:
        _show(output, put(opened, noun))


def _show(output: Output, kept: Any) -> None:
    from sosie.api.lines import json_of
    from sosie.knowledge.rental import Rental
    from sosie.knowledge.trial import Trial

    if output.as_json:
        output.line(json_of(kept))
        return
    noun = kept.noun
    if isinstance(noun, Trial):
        cells = (noun.date, noun.outcome, noun.component, noun.setting, noun.result)
    elif isinstance(noun, Rental):
        cells = (noun.started, noun.ended or "active", noun.gpu, f"{noun.price:g} USD/h", "; ".join(noun.problems))
    else:
        cells = (noun.date, noun.expires or "-", noun.about, noun.text, noun.source)
    output.data("\t".join((kept.id, *(cell or "-" for cell in cells))))
