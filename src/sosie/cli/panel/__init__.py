"""`sosie panel`: new, serve and report."""

from __future__ import annotations

import click

from sosie.cli.panel.new import new
from sosie.cli.panel.report import report
from sosie.cli.panel.serve import serve


@click.group("panel")
def command() -> None:
    """Let people choose between images without knowing what made them, and hold the judges against them."""


command.add_command(new)
command.add_command(serve)
command.add_command(report)
