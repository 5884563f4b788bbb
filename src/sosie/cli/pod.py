"""`sosie pod`: search and list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.pods.offer import Wanted


@click.group("pod")
def command() -> None:
    """See what machines can be rented, and what still bills.

    Providers come with other packages, in the entry point group sosie.pods.
    """


@command.command("search")
@click.option("--gpu", default="", metavar="NAME", help="A part of the card's name, such as 4090.")
@click.option("--gpus", type=click.IntRange(1), default=1, show_default=True, help="At least so many cards.")
@click.option("--memory", default="", metavar="SIZE", help="At least so much memory a card, such as 24GB.")
@click.option("--compute", default="", metavar="X.Y", help="At least this compute capability, such as 8.9.")
@click.option("--driver", default="", metavar="VERSION", help="At least this driver, such as 570.")
@click.option("--disk", default="", metavar="SIZE", help="So much disk, whose price is part of the price: 60GB.")
@click.option("--price", type=click.FloatRange(0), default=0.0, metavar="USD", help="At most so much an hour.")
@click.option("--place", "places", multiple=True, metavar="CC", help="A country by its two letters; may be repeated.")
@click.option("--reliability", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="At least this, 0 to 1.")
@click.option("--provider", default="", metavar="NAME", help="This provider only. Default: all that are installed.")
@common
def search(provider: str, output: Output, workspace: Workspace, **wanted: Any) -> int:
    """List what can be rented now, cheapest first. Nothing is rented.

    Exit 1 if there is a warning or an error.
    """
    from sosie.api.lines import json_of
    from sosie.api.pods import search_pods

    del workspace
    found = search_pods(_wanted(**wanted), provider)
    for finding in found.findings:
        output.finding(finding)
    for offer in found.offers:
        if output.as_json:
            output.line(json_of(offer))
            continue
        memory = "" if offer.memory is None else f" {offer.memory / 1e9:.0f} GB"
        more = "\t".join(str(value) for value in (offer.place or "-", _share(offer.reliability), offer.id))
        output.data(f"{offer.provider}\t{offer.price:.3f} USD/h\t{offer.gpus} x {offer.gpu}{memory}\t{more}")
    return int(any(finding.severity != "info" for finding in found.findings))


@command.command("list")
@click.option("--provider", default="", metavar="NAME", help="This provider only. Default: all that are installed.")
@common
def list_(provider: str, output: Output, workspace: Workspace) -> int:
    """List every rented machine that still bills, whoever rented it.

    Exit 1 if there is a warning or an error: then more may bill than is shown.
    """
    from sosie.api.lines import json_of
    from sosie.api.pods import list_pods

    del workspace
    found = list_pods(provider)
    for finding in found.findings:
        output.finding(finding)
    for lease in found.leases:
        if output.as_json:
            output.line(json_of(lease))
            continue
        until = f"until {lease.deadline:%Y-%m-%d %H:%M %Z}" if lease.deadline else "without an end"
        label = lease.label or "-"
        output.data(f"{lease.provider}\t{lease.id}\t{label}\t{lease.state}\t{lease.price:.3f} USD/h\t{until}")
    if not output.as_json and not found.findings:
        count = len(found.leases)
        output.say(f"{count} leases bill {found.price:.3f} USD/h" if count else "nothing bills")
    return int(any(finding.severity != "info" for finding in found.findings))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _wanted(**given: Any) -> Wanted:
    """Sizes and versions are written as texts; empty ones ask for nothing."""
    from sosie.api.needs import parse_bytes
    from sosie.pods.offer import Wanted

    memory, disk = (parse_bytes(text) if (text := given.pop(name)) else 0 for name in ("memory", "disk"))
    driver, compute = (_version(name, given.pop(name)) for name in ("driver", "compute"))
    major, minor = (*compute, 0, 0)[:2]
    return Wanted(memory=memory, disk=disk, driver=driver, compute=(major, minor), **given)


def _version(flag: str, text: str) -> tuple[int, ...]:
    parts = text.split(".") if text else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise click.UsageError(f"--{flag} '{text}' is no version; expected numbers with dots between them")
    return tuple(int(part) for part in parts)
