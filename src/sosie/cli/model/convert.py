"""`sosie model convert`: a safetensors file from a pickled one."""

from __future__ import annotations

from pathlib import Path

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("convert")
@click.argument("path", metavar="IN", type=PATH)
@click.option(
    "--out",
    type=PATH,
    help="The file to write; it must not exist.",
    show_default="IN with the ending .safetensors",
)
@common
def convert_command(path: Path, out: Path | None, output: Output, workspace: Workspace) -> int:
    """Make a safetensors file from IN, a pickled model (.bin, .pth, .pt, .ckpt).

    IN is refused unless it holds nothing but tensors. It is read by torch (sosie[local]), weights
    only, in a process of few rights; the result is checked against what IN's opcodes promise.
    """
    from sosie.api.models import convert_model

    done = convert_model(workspace.path(str(path)), None if out is None else workspace.path(str(out)))
    for finding in done.findings:
        output.finding(finding)
    if output.as_json:
        output.line({"path": str(done.path), "out": str(done.out), "tensors": done.tensors, "bytes": done.bytes})
    else:
        output.data(str(done.out))
    return 0
