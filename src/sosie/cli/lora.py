"""`sosie lora`: add, show and convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.loras import LoraReport
    from sosie.lora import Lora

LAYOUTS = ("comfy", "diffusers", "kohya", "split", "fused")


@click.group("lora")
def command() -> None:
    """Give characters their LoRAs, show LoRAs, and convert them exactly."""


@command.command("add")
@click.argument("character")
@click.argument("file")
@click.option(
    "--weight",
    type=float,
    default=1.0,
    show_default=True,
    help="How strongly it acts, -4 to 4, times the recipe's own weight for it.",
)
@click.option(
    "--trigger", default="", help="The word it was trained on. Default: its metadata's, else the character's."
)
@click.option("--trained-on", default="", metavar="MODEL", help="What it was trained on, if its metadata is silent.")
@click.option("--model", default="", help="The only model it is for. Default: all models of its family.")
@common
def add(character: str, file: str, output: Output, workspace: Workspace, **terms: Any) -> int:
    """Give CHARACTER the LoRA in FILE: recipes that ask for the character's LoRA then use it.

    Its trigger is put into every prompt that it acts on. Exit 1 if there is a warning or an error.
    """
    from sosie.api.lines import json_of
    from sosie.api.loras import LoraTerms, add_lora

    done = add_lora(workspace, character, file, LoraTerms(**terms))
    for finding in done.findings:
        output.finding(finding)
    lora = done.lora
    if output.as_json:
        output.line(json_of(done))
    else:
        output.data(str(done.path))
        output.say(f"trigger: {lora.trigger or 'none'}; weight {lora.weight:g}; family {lora.family}")
    return int(any(finding.severity != "info" for finding in done.findings))


@command.command("show")
@click.argument("names", nargs=-1, required=True)
@click.option("--base", metavar="MODEL", help="The model to compare with: a family, a model's name or a path.")
@click.option("--for", "asked_for", metavar="MODEL", help="The model that it shall run on: its name, or a variant's.")
@click.option("--trained-on", default="", metavar="MODEL", help="What it was trained on, if its metadata is silent.")
@common
def show(
    names: tuple[str, ...],
    base: str | None,
    asked_for: str | None,
    trained_on: str,
    output: Output,
    workspace: Workspace,
) -> int:
    """Say what LoRAs are, from their headers: layout, rank, alpha, what they fit, who would drop what.

    Exit 1 if there is a warning or an error.
    """
    from sosie.api.lines import json_of
    from sosie.api.loras import show_lora

    worst = 0
    for name in names:
        report = show_lora(workspace, name, base, asked_for, trained_on)
        worst = max(worst, int(any(finding.severity != "info" for finding in report.findings)))
        if output.as_json:
            output.line({"name": name, **json_of(report)})
            continue
        for line in _prose(report):
            output.data(line)
        for finding in report.findings:
            output.finding(finding)
    return worst


@command.command("convert")
@click.argument("name")
@click.argument("out", type=PATH)
@click.option("--to", type=click.Choice(LAYOUTS), required=True, help="The layout of the new file.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--merge-check", "base", metavar="BASE", help="Prove it: merge both files into weights of this model.")
@common
def convert(name: str, out: Path, output: Output, workspace: Workspace, **options: Any) -> int:
    """Write LoRA NAME to OUT in another layout, equal to the last bit, or refuse with the reason.

    comfy is read by every current loader. Exit 1 if --merge-check finds a difference.
    """
    from sosie.api.lines import json_of
    from sosie.api.loras import check_merge, convert_lora

    base: str | None = options["base"]
    done = convert_lora(workspace, name, out, options["to"], options["overwrite"])
    line = json_of(done)
    for note in done.notes:
        output.say(note)
    error = 0.0
    if base is not None:
        merged = check_merge(workspace, done.source, out, base)
        error = merged.error
        line["merge"] = json_of(merged)
        output.say(
            f"merged into {', '.join(merged.modules)}: largest difference {error:g} in {merged.numbers:,} numbers"
        )
    output.line(line) if output.as_json else output.data(str(done.path))
    return int(error != 0)


def _model(lora: Lora) -> str:
    """The family and its size, for people."""
    size = f" ({lora.variant})" if lora.table and lora.table.title else ""
    return f"{lora.title}{size}" if lora.family else "an unknown model"


def _prose(report: LoraReport) -> list[str]:
    from sosie.lora.layouts import NAMES
    from sosie.lora.loaders import is_old

    lora, cover = report.lora, report.coverage
    ranks = ", ".join(str(rank) for rank in lora.ranks[:8]) or "none"
    scales = ", ".join(f"{scale:g}" for scale in lora.scales[:8]) or "1"
    alpha = {"key": "in the file", "metadata": "in the metadata only", "none": "none (= rank)"}[lora.alpha_source]
    lines = [
        f"{lora.path}: {' + '.join(NAMES[name] for name in lora.algorithms)} for {_model(lora)}",
        f"  layout      {lora.layout.title}",
        f"  rank        {ranks}; alpha {alpha}, alpha / rank {scales}",
        f"  trained on  {lora.trained_on}",
        f"  triggers    {', '.join(lora.training.triggers) or 'not named'}",
    ]
    if cover is not None:
        lines.append(
            f"  matches     {cover.matched} of {cover.total} tensors; {len(cover.untouched)} modules untouched"
        )
    now = next(each for each in report.outcomes if not is_old(each))
    for outcome in report.outcomes:
        if is_old(outcome) and outcome.dropped == now.dropped:
            continue
        tail = f", {len(outcome.dropped)} tensors dropped" if outcome.dropped else ""
        lines.append(f"  {outcome.loader:<25} {outcome.result}{tail}")
    return lines
