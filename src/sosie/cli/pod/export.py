"""`sosie pod export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("export")
@click.argument("name")
@click.option("--to", "target", required=True, help="dstack, skypilot, k8s or slurm.")
@click.option("-n", "machines", type=int, required=True, help="So many machines.")
@click.option("--at", "folder", required=True, metavar="PATH", help="Where the manifest is on the machines.")
@click.option("--hours", type=float, required=True, help="A machine ends after so long.")
@click.option("--gpu", default="", metavar="NAME", help="A card by the name that the engine has for it.")
@click.option("--memory", default="", metavar="SIZE", help="At least so much memory a card (dstack).")
@click.option("--disk", default="", metavar="SIZE", help="At least so much disk.")
@click.option("--price", type=click.FloatRange(0), default=0.0, metavar="USD", help="At most so much an hour (dstack).")
@click.option("--image", default="", help="The container image. Default: one with PyTorch.")
@click.option("--on", default="", metavar="CLOUDS", help="Only these, with commas: runpod,aws (dstack, skypilot).")
@click.option("--setup", multiple=True, metavar="COMMAND", help="Installs Sosie there. Default: pip. May be repeated.")
@click.option("--fetch", multiple=True, metavar="COMMAND", help="Brings the manifest there. May be repeated.")
@click.option("--deliver", multiple=True, metavar="COMMAND", help="Takes what was drawn away, each minute; repeatable.")
@click.option("--claim", default="", metavar="NAME", help="The volume claim that has the manifest (k8s).")
@click.option("--queue", default="", metavar="NAME", help="Kueue's queue (k8s).")
@click.option("--out", type=PATH, default=Path(), help="The folder for the file. Default: the current one.")
@common
def export(name: str, target: str, output: Output, workspace: Workspace, **given: Any) -> None:
    """Write a file that has dstack, SkyPilot, Kubernetes or Slurm run `sosie worker draw` on many machines, as NAME.

    Machines that share the folder of the manifest take shards from it as they come; with --fetch each has a copy, and
    draws its own share. SkyPilot is refused for Vast.ai.
    """
    from sosie.api.needs import parse_bytes
    from sosie.files.whole import make_folder, write_whole
    from sosie.pods.export import export as write
    from sosie.pods.export.share import IMAGE, Share

    del workspace
    memory, disk = (parse_bytes(text) if (text := given.pop(one)) else 0 for one in ("memory", "disk"))
    on = tuple(part.strip() for part in given.pop("on").split(",") if part.strip())
    image, out = given.pop("image") or IMAGE, given.pop("out")
    file, text = write(Share(name, memory=memory, disk=disk, on=on, image=image, **given), target)
    path = out / file
    make_folder(out)
    write_whole(path, text.replace("FILE", path.name))
    output.line({"path": str(path)}) if output.as_json else output.data(str(path))
