"""`sosie pod search`."""

from __future__ import annotations

from typing import Any

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.cli.pod.wanted import has_trouble, offer_line, struck_line, wanted_of, wanting, work_of
from sosie.workspace.workspace import Workspace


@click.command("search")
@wanting
@common
def search(provider: str, output: Output, workspace: Workspace, **given: Any) -> int:
    """List what can be rented now: the cheapest first, or with --tflop or --download where the job costs least.

    What the doctor knows to fail is struck out, with the reason. Nothing is rented. Exit 1 if there is a warning or an
    error.
    """
    from sosie.api.lines import json_of
    from sosie.api.pods import search_pods

    del workspace
    work = work_of(given)
    found = search_pods(wanted_of(given), provider, work)
    for finding in found.findings:
        output.finding(finding)
    for offer, estimate in zip(found.offers, found.estimates, strict=True):
        if output.as_json:
            job = {"seconds": estimate.seconds, "cost": estimate.cost} if estimate else None
            output.line({**json_of(offer), "job": job, "struck": None})
        else:
            output.data(offer_line(offer, estimate))
    for offer, why in found.struck:
        if output.as_json:
            output.line({**json_of(offer), "job": None, "struck": why})
        else:
            output.say(struck_line(offer, why))
    return int(has_trouble(found))
