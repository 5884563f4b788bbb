"""`sosie pod ssh`, `tunnel`, `push` and `pull`: a rented machine at work."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.machines.ssh import Host


@click.command("ssh", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@common
def ssh(name: str, words: tuple[str, ...], output: Output, workspace: Workspace) -> int:
    """Open a shell on the pod NAME, or run a command there, whose exit code is this one's."""
    from sosie.machines.ssh.command import environment, quoted, ssh_words

    del output
    host = _host(workspace, name)
    options = ["-t" if word == "-T" and sys.stdin.isatty() and not words else word for word in ssh_words(host)]
    line = [*options, "--", host.destination, *([quoted(words)] if words else [])]
    return subprocess.call(line, env=environment())  # noqa: S603 - a list of words, the destination after "--"


@click.command("tunnel")
@click.argument("name")
@click.argument("port", type=click.IntRange(1, 65535))
@common
def tunnel(name: str, port: int, output: Output, workspace: Workspace) -> None:
    """Bring PORT of the pod's own 127.0.0.1 here, until Ctrl-C; a broken line is opened anew at the same port."""
    from sosie.machines.ssh import Tunnel

    with Tunnel(_host(workspace, name), port) as opened:
        address = f"127.0.0.1:{opened.port}"
        if output.as_json:
            output.line({"address": address})
        else:
            output.data(address)
        threading.Event().wait()


@click.command("push")
@click.argument("name")
@click.argument("file", type=PATH)
@click.argument("path")
@common
def push(name: str, file: Path, path: str, output: Output, workspace: Workspace) -> None:
    """Bring FILE to the absolute PATH on the pod, resumed after a broken line and verified there."""
    from sosie.machines.ssh import push as send

    done = send(_host(workspace, name), file, path)
    if output.as_json:
        output.line({"path": done.path, "sha256": done.sha256, "bytes": done.size, "sent": done.sent})
    else:
        output.data(f"{done.path}\t{done.size}\t{done.sha256}")


@click.command("pull")
@click.argument("name")
@click.argument("path")
@click.argument("file", type=PATH)
@common
def pull(name: str, path: str, file: Path, output: Output, workspace: Workspace) -> None:
    """Bring the file at the absolute PATH on the pod to FILE, resumed after a broken line and verified here."""
    from sosie.machines.ssh import pull as fetch

    done = fetch(_host(workspace, name), path, file)
    if output.as_json:
        output.line({"path": str(done), "bytes": done.stat().st_size})
    else:
        output.data(str(done))


def _host(workspace: Workspace, name: str) -> Host:
    from sosie.pods.pod import find_pod, host_of

    return host_of(workspace, find_pod(workspace, name))
