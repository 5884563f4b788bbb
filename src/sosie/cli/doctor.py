"""`sosie doctor`: what things are, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common
from sosie.cli.output import Output
from sosie.core.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.doctor import Checkup


@click.command("doctor")
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@click.option(
    "--from", "machine", type=click.Path(path_type=Path), help="Recorded `nvidia-smi` text of another machine."
)
@click.option("--trigger", default="", help="The token that a dataset's captions must hold.")
@click.option("--explain", metavar="CODE", help="Say what a finding's code means.")
@common
def command(
    subjects: tuple[str, ...],
    machine: Path | None,
    trigger: str,
    explain: str | None,
    output: Output,
    workspace: Workspace,
) -> int:
    """Examine SUBJECTs: model and LoRA files, folders, datasets, recipes, characters; or this machine.

    A path wins over a recipe's name, a recipe's over a character's; recipe:X and character:X say which.
    No weight is loaded. Exit 1 if there is a warning or an error.
    """
    from sosie.api.doctor import Examination, examine

    if explain is not None:
        _explain(output, explain)
        return 0
    worst = 0
    for checkup in examine(workspace, subjects, Examination(machine, trigger)):
        worst = max(worst, int(any(finding.severity != "info" for finding in checkup.findings)))
        if output.as_json:
            output.line(_line(checkup))
        else:
            _show(output, checkup)
    return worst


def _line(checkup: Checkup) -> dict[str, Any]:
    findings = [
        {"code": f.code, "severity": f.severity, "message": f.message, "hint": f.hint} for f in checkup.findings
    ]
    known = {
        name: getattr(checkup, name) or None for name in ("path", "role", "family", "variant", "layout", "storage")
    }
    return {
        "subject": checkup.subject,
        "kind": checkup.kind,
        **known,
        "parameters": checkup.parameters or None,
        "findings": findings,
    }


def _show(output: Output, checkup: Checkup) -> None:
    what = [checkup.kind, checkup.family, checkup.variant, checkup.layout, checkup.storage]
    size = [f"{checkup.parameters / 1e6:,.0f} M parameters"] if checkup.parameters else []
    bad = sum(finding.severity != "info" for finding in checkup.findings)
    state = "ok" if not bad else f"{bad} finding{'s' if bad > 1 else ''}"
    output.data("\t".join([checkup.subject, state, ", ".join([part for part in what if part] + size)]))
    for finding in checkup.findings:
        output.finding(finding, always=True)


def _explain(output: Output, code: str) -> None:
    from sosie.doctor.codes import explanation, paragraphs, titles

    section = explanation(code)
    if output.as_json:
        output.line({"code": code, "title": titles()[code], **paragraphs(section)})
    else:
        output.data(section.removeprefix("## ").rstrip())
