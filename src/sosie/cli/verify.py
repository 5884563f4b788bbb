"""`sosie verify`: read and check an image's provenance."""

from __future__ import annotations

from pathlib import Path

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace


@click.command("verify")
@click.argument("images", nargs=-1, required=True, type=PATH)
@common
def command(images: tuple[Path, ...], output: Output, workspace: Workspace) -> int:
    """Read the C2PA manifest of IMAGES, check it, and say what it proves and what not.

    Exit 1 if an image carries no valid manifest.
    """
    from sosie.api.verify import verify_image
    from sosie.core.schema import to_table

    worst = 0
    for image in images:
        report = verify_image(workspace, image)
        worst = max(worst, int(report.state != "valid"))
        if output.as_json:
            output.line({"image": str(image), **to_table(report), "models": dict(report.models)})
            continue
        output.data(f"{image}\t{report.state}")
        for label, value in (
            ("signed by", report.signer),
            ("made with", report.software),
            ("recipe", report.recipe),
            ("engine", report.engine),
            ("plan", report.plan_id),
            ("watermark of plan", report.watermark),
        ):
            if value:
                output.data(f"  {label}: {value}")
        for name, sha256 in report.models:
            output.data(f"  model: {name} (sha256 {sha256[:16]})")
        for text in report.proves:
            output.data(f"  proves: {text}")
        for text in report.does_not_prove:
            output.data(f"  does not prove: {text}")
        for finding in report.findings:
            output.finding(finding)
    return worst
