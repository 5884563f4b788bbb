"""`sosie panel serve`: the page on which people vote."""

from __future__ import annotations

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("serve")
@click.argument("name")
@click.option("--listen", "address", default="127.0.0.1", show_default=True, help="An address of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: one that is free.")
@click.option("--host-name", "names", multiple=True, help="Another name that people open it by; may be repeated.")
@common
def serve(name: str, address: str, port: int, names: tuple[str, ...], output: Output, workspace: Workspace) -> None:
    """Serve the page of the panel NAME until Ctrl-C, to this machine alone unless --listen says otherwise.

    The address that is printed holds the key: give it to those who are to vote, and to nobody else. Everyone sees the
    pairs in an order of their own. Votes are added to a file that only grows; no name is kept.
    """
    from sosie.api.comparing.panels import serve_panel
    from sosie.servers.pages.serving import Listening

    def ready(shown: str) -> None:
        if output.as_json:
            output.line({"panel": name, "address": shown})
        else:
            output.data(shown, lines=True)  # whole: what stands behind # is the key
            output.say("Ctrl-C ends it; nothing that was voted is lost")

    folder = serve_panel(workspace, name, Listening(address, port, names), ready)
    people = folder.votes.last(folder.panel.id)
    votes = sum(map(len, people.values()))
    output.say(f"{votes} votes of {len(people)} people: sosie panel report {name}")
