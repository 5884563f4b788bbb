"""`sosie pod down`."""

from __future__ import annotations

import sys

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace


@click.command("down")
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="The answer to the question whether to end it.")
@common
def down(names: tuple[str, ...], yes: bool, output: Output, workspace: Workspace) -> None:
    """End rented machines with their disks, and return when the provider has confirmed it.

    Exit 2 if one may bill on (SOS-B005).
    """
    from sosie.api.renting.rent import end_pod
    from sosie.pods.pod import find_pod

    for name in names:
        find_pod(workspace, name)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("what is on its disk is lost, and there is no terminal to ask at", "add --yes")
        if not click.confirm(f"End {', '.join(names)}, with all that is on the disk?", err=True):
            return
    with session(workspace) as opened:
        for name in names:
            pod = end_pod(opened, name)
            if output.as_json:
                output.line({"name": pod.name, "lease": pod.lease, "ended": pod.ended})
            else:
                output.data(f"{pod.name}\t{pod.lease or '-'}\tended {pod.ended}")
