"""`sosie studio`: the page."""

from __future__ import annotations

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("studio")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="Where; 0: any that is free."
)
@click.option("--listen", "address", default="127.0.0.1", show_default=True, help="An address of this machine.")
@click.option("--host-name", "names", multiple=True, help="Another name that people open it by; may be repeated.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser; the address is printed either way.")
@common
def command(
    port: int, address: str, names: tuple[str, ...], no_browser: bool, output: Output, workspace: Workspace
) -> None:
    """Serve the page of this workspace until Ctrl-C, to this machine alone unless --listen says otherwise.

    The address that is printed holds the key: who has it can do what you can do here. Jobs are worked on while the
    page is served; those that run when it ends are stopped, and can be continued.
    """
    from sosie.core.errors import MissingExtraError

    try:
        from sosie.studio.server import Listening, serve_studio
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "sosie":
            raise
        hint = "pip install 'sosie[studio]'"
        raise MissingExtraError(f"the studio cannot be served: {error.name} is not installed", hint) from None

    def ready(shown: str) -> None:
        if output.as_json:
            output.line({"address": shown})
        else:
            output.data(shown, lines=True)  # whole: what stands behind # is the key
            output.say("Ctrl-C ends it; jobs that run then are stopped, and can be continued")
        if not no_browser:
            from sosie.studio.opening import open_in_browser

            open_in_browser(workspace, shown)

    serve_studio(workspace, Listening(address, port, names), ready)
