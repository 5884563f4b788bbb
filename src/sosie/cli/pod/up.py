"""`sosie pod up`."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.cli.pod.wanted import offer_line, struck_line, wanted_of, wanting, work_of
from sosie.core.errors import NotFoundError, UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.pods import PodOffers
    from sosie.api.renting.rent import Lending
    from sosie.pods.pod import Pod

SHOWN = 5


@click.command("up")
@click.argument("name")
@click.option("--hours", type=float, required=True, help="It ends itself after so long, whatever happens here.")
@click.option("--max-cost", type=float, required=True, metavar="USD", help="All of it costs at most so much.")
@click.option(
    "--budget", type=click.FloatRange(0), default=0.0, metavar="USD", help="All machines of this workspace, at most."
)
@click.option("--yes", is_flag=True, help="The answer to the question whether to rent.")
@click.option(
    "--template",
    type=click.Choice(["comfyui"]),
    help="Rent with Vast.ai's own ComfyUI, for --engine comfy+ssh:NAME.",
)
@click.option("--no-card", is_flag=True, help="A machine without a card will do: none is looked for.")
@wanting
@common
def up(name: str, output: Output, workspace: Workspace, **given: Any) -> int:
    """Rent a machine under NAME: the best offer that works, tried before anything is downloaded.

    An offer that does not start, lets nobody in or has a driver that fails is ended, and the next one is rented. Then
    `--engine pod:NAME` draws there. With a template it is waited for until ComfyUI answers, a quarter of an hour at
    most. Exit 1 if an offer was of no use, or ComfyUI does not answer.
    """
    from sosie.api.pods import search_pods
    from sosie.api.renting.comfyui import await_comfyui
    from sosie.api.renting.rent import Agreed, Lending, PodUp, rent
    from sosie.core import Finding
    from sosie.pods.fitness import Work

    agreed = Agreed(given.pop("max_cost"), given.pop("hours"), given.pop("budget"))
    yes, no_card, provider = given.pop("yes"), given.pop("no_card"), given.pop("provider")
    template = given.pop("template") or ""
    if template and (provider := provider or "vast") != "vast":
        why = f"--template {template} is a template of Vast.ai's own; none of '{provider}' is known"
        raise UsageError(why, "leave --provider out, or rent without a template")
    work = work_of(given)
    lending = Lending(name, wanted_of(given), agreed, provider, work or Work(), not no_card, template)
    found = search_pods(lending.wanted, provider, work)
    for finding in found.findings:
        output.finding(finding)
    if not found.offers:
        raise NotFoundError("nothing that can be rented is what is wanted", "sosie pod search says what there is")
    _show(output, found, lending)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("renting costs money, and there is no terminal to ask at", "add --yes to the command")
        if not click.confirm(f"Rent, for at most {agreed.cost:.2f} USD?", err=True):
            return 1
    trouble = 0
    with session(workspace) as opened, output.progress():
        events = rent(opened, lending, found.offers)
        for event in chain(events, await_comfyui(workspace, name) if template else ()):
            output.event(event)
            trouble |= isinstance(event, Finding)
            if isinstance(event, PodUp):
                _show_pod(output, event.pod)
    return trouble


def _show_pod(output: Output, pod: Pod) -> None:
    if output.as_json:
        output.line({"name": pod.name, "lease": pod.lease, "address": pod.address, "deadline": pod.deadline})
    else:
        output.data(f"{pod.name}\t{pod.provider}\t{pod.lease}\t{pod.price:.3f} USD/h\t{pod.address}")
    output.say(f"it ends itself at {pod.deadline}; sosie pod down {pod.name} ends it before")


def _show(output: Output, found: PodOffers, lending: Lending) -> None:
    """What is about to be rented, and for how much."""
    from sosie.api.renting.rent import cost_of

    for offer, why in found.struck:
        output.say(struck_line(offer, why))
    for offer, estimate in list(zip(found.offers, found.estimates, strict=True))[:SHOWN]:
        cost = cost_of(offer, lending)
        line = offer_line(offer, estimate).replace("\t", "  ")
        output.say(f"{line}  {cost:.2f} USD for {lending.agreed.hours:g} h at most")
