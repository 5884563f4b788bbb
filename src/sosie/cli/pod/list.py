"""`sosie pod list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.renting.leases import Paid


@click.command("list")
@click.option("--provider", default="", metavar="NAME", help="This provider only. Default: all that can be asked.")
@click.option("--all", "past", is_flag=True, help="Also every machine on record that has ended, with what it cost.")
@common
def list_(provider: str, past: bool, output: Output, workspace: Workspace) -> int:
    """List every rented machine that still bills, whoever rented it.

    Exit 1 if there is a warning or an error: it bills without an end, or more may bill than is shown.
    """
    from sosie.api.lines import json_of
    from sosie.api.pods import check_volumes, list_pods
    from sosie.api.renting.leases import check_leases

    found = list_pods(provider)
    findings = [*found.findings, *check_leases(found.leases)]
    if not found.findings:
        findings += check_volumes(provider)
    for finding in findings:
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
    if past:
        _all_past(output, workspace)
    return int(any(finding.severity != "info" for finding in findings))


def _all_past(output: Output, workspace: Workspace) -> None:
    from sosie.api.renting.leases import billed, ledger
    from sosie.core.errors import SosieError

    with session(workspace) as opened:
        found = ledger(opened)
    sums: dict[str, float] = {}
    try:
        sums = billed([paid.rental for paid in found])
    except SosieError as error:
        output.say(f"what was billed is not known: {error.message}")
    for paid in found:
        _past(output, paid, sums.get(paid.rental.label))


def _past(output: Output, paid: Paid, billed: float | None) -> None:
    rental = paid.rental
    if output.as_json:
        from sosie.core.schema import to_table

        images = {"drawn": paid.drawn, "kept": paid.kept, "each": paid.each}
        output.line({"rental": {**to_table(rental), "cost": rental.cost, "billed": billed, **images}})
        return
    cost = "-" if rental.cost is None else f"{rental.cost:.2f} USD"
    cost += "" if billed is None else f" ({billed:.2f} USD billed)"
    ended = f"ended {rental.ended}" if rental.ended else "not ended"
    images = f"{paid.kept} of {paid.drawn} images kept" if paid.drawn else "no images"
    each = f", {paid.each:.4f} USD each" if paid.each is not None else ""
    problems = f"\t{'; '.join(rental.problems)}" if rental.problems else ""
    what = f"{rental.label}\t{rental.gpu}\t{rental.price:.3f} USD/h\t{rental.started}\t{ended}"
    output.data(f"{what}\t{cost}\t{images}{each}{problems}")
