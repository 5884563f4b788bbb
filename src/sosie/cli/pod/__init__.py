"""`sosie pod`: machines that are rented, used and ended."""

from __future__ import annotations

import click

from sosie.cli.pod.down import down
from sosie.cli.pod.export import export
from sosie.cli.pod.list import list_
from sosie.cli.pod.search import search
from sosie.cli.pod.up import up
from sosie.cli.pod.use import pull, push, ssh, tunnel


@click.group("pod")
def command() -> None:
    """Rent machines without surprises, use them, and see what still bills.

    Vast.ai and RunPod are known; other packages bring other providers, in the entry point group sosie.pods.
    """


for one in (search, up, list_, ssh, tunnel, push, pull, down, export):
    command.add_command(one)
