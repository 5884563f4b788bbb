"""`sosie comfy`: record a ComfyUI server for a bug report."""

from __future__ import annotations

from pathlib import Path

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.files.whole import write_json
from sosie.workspace.workspace import Workspace


@click.group("comfy")
def command() -> None:
    """Record a ComfyUI server for a bug report."""


@command.command("record")
@click.argument("url")
@click.option("--out", type=PATH, help="The file to write. Default: to stdout.")
@click.option("--with-prompts", is_flag=True, help="Leave the texts of prompts and names of images in.")
@common
def record(url: str, out: Path | None, with_prompts: bool, output: Output, workspace: Workspace) -> None:
    """Write what the server at URL says of itself, its last jobs and its log as JSON, without secrets.

    URL is http://HOST:PORT, comfy+ssh://USER@HOST:PORT, or comfy+ssh:NAME for a pod.
    Tokens, passwords, names of users, addresses and prompts
    are removed; names of model files stay. Read the file before you send it.
    """
    from sosie.servers.recording import record_server

    if out is not None and out.exists():
        raise UsageError(f"{out} exists already", "name another file, or remove it")
    recording = record_server(url, workspace, with_prompts)
    if out is None:
        output.document(recording, None if output.as_json else 1)
        return
    write_json(out, recording)
    if output.as_json:
        output.line({"path": str(out), "with_prompts": with_prompts, "failed": recording["failed"]})
    else:
        output.data(str(out))
    for part, why in recording["failed"].items():
        output.say(f"! {part} is not in it: {why}")
    output.say("read it before you send it: names of model files are in it")
