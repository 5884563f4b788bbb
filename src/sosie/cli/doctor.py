"""`sosie doctor`: what things are, and what is wrong with them."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sosie.api.doctor import Checkup
    from sosie.api.fixes import Fix, Fixed
    from sosie.api.needs import Examination


@click.command("doctor")
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@click.option(
    "--from",
    "machine",
    type=PATH,
    help="Recorded `nvidia-smi` text of another machine, judged by the needs of the recipes named.",
)
@click.option("--quota", metavar="SIZE", help="A recipe's disk plan against a pod's disk: 50GB, 46GiB.")
@click.option("--training", type=int, default=0, metavar="STEPS", help="Plan a training run on the recipe's model.")
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp16", "fp32", "fp8"]),
    help="What a recipe, or a training, computes in. Default: as the recipe says.",
)
@click.option("--family", default="", help="What is trained on a dataset, for --precision: zimage, sdxl.")
@click.option("--trigger", default="", help="The token that a dataset's captions must hold.")
@click.option("--recipe", default="", help="What a ComfyUI server is to run: its nodes and files are compared.")
@click.option("--engine", default="", help="Where a workflow is to run: comfy:URL. Its nodes and files are compared.")
@click.option("--fix", is_flag=True, help="Mend what can be mended without loss, after asking.")
@click.option("--yes", is_flag=True, help="The answer to --fix.")
@click.option("--explain", metavar="CODE", help="Say what a finding's code means.")
@common
def command(subjects: tuple[str, ...], output: Output, workspace: Workspace, **flags: Any) -> int:
    """Examine SUBJECTs: models, LoRAs, folders, datasets, recipes, experiments, graphs, characters; or this machine.

    A path wins over a recipe's name, a recipe's over a character's; recipe:X and character:X say which.
    comfy:URL is a running ComfyUI server, comfy+ssh://USER@HOST:PORT one with its machine and model files;
    ssh:USER@HOST and pod:NAME are machines that would draw, whose driver is tried.
    No weight is loaded. Exit 1 if there is a warning or an error.

    --fix converts LoRAs and pickles beside the original, which stays, and removes partial downloads
    that were not written to for an hour. Then the exit code is that of what remains.
    """
    if flags["explain"] is not None:
        _explain(output, flags["explain"])
        return 0
    how = _examination(flags)
    if flags["fix"]:
        _expect_here(subjects)
        if not flags["yes"] and not sys.stdin.isatty():
            raise UsageError("--fix asks first, and there is no terminal to ask at", "add --yes to the command")
        return _mend(output, workspace, subjects, how, flags["yes"])
    if flags["yes"]:
        raise UsageError("--yes is the answer to --fix, which was not given", "sosie doctor SUBJECT --fix --yes")
    from sosie.api.doctor import examine

    worst = 0
    for checkup in examine(workspace, subjects, how):
        worst = max(worst, _worst(checkup))
        _print(output, checkup, how)
    return worst


def _expect_here(subjects: tuple[str, ...]) -> None:
    from sosie.api.doctor import is_elsewhere

    if far := [subject for subject in subjects if is_elsewhere(subject)]:
        raise UsageError(f"--fix mends what is on this machine, and {far[0]} is not", "sosie doctor SUBJECT --fix")


def _examination(flags: dict[str, Any]) -> Examination:
    from sosie.api.needs import Examination, parse_bytes
    from sosie.doctor.recipe_needs import Purpose

    quota = 0 if flags["quota"] is None else parse_bytes(flags["quota"])
    purpose = Purpose(flags["training"], precision=flags["precision"] or "", quota=quota)
    return Examination(flags["machine"], flags["trigger"], flags["family"], purpose, flags["recipe"], flags["engine"])


def _mend(output: Output, workspace: Workspace, subjects: tuple[str, ...], how: Examination, yes: bool) -> int:
    """Examines, asks, mends and examines again what was touched; as JSON only the fixes and the end."""
    from sosie.api.doctor import examine
    from sosie.api.fixes import Fixed, apply_fix, examine_again, propose_fixes

    checkups: list[Checkup] = []
    for checkup in examine(workspace, subjects, how):
        checkups.append(checkup)
        if not output.as_json:
            _print(output, checkup, how)
    fixes = propose_fixes(checkups)
    ready = [fix for fix in fixes if not fix.blocked]
    for fix in fixes:
        if fix.blocked:
            _print_fix(output, Fixed(fix, False, fix.blocked))
    if ready and not yes and not _agreed(output, ready):
        ready = []
    done = [apply_fix(fix) for fix in ready]
    for one in done:
        _print_fix(output, one)
    after = list(examine_again(workspace, checkups, done, how))
    for checkup in after:
        if output.as_json or checkup not in checkups:
            _print(output, checkup, how)
    failed = any(not one.done for one in done)
    return max([int(failed), *map(_worst, after)])


def _agreed(output: Output, fixes: Sequence[Fix]) -> bool:
    for fix in fixes:
        output.console.print(f"  {fix.code}: {fix.message}", markup=False)
    return click.confirm("Do this?" if len(fixes) == 1 else f"Do these {len(fixes)}?", err=True)


def _print_fix(output: Output, tried: Fixed) -> None:
    if output.as_json:
        from sosie.api.lines import json_of

        output.line(json_of(tried))
    else:
        path, message = str(tried.fix.path), tried.message
        text = message if path in message else f"{path}: {message}"
        output.say(f"{'✓' if tried.done else '✗'} {tried.fix.action}: {text}", "green" if tried.done else "yellow")


def _worst(checkup: Checkup) -> int:
    found = [*checkup.findings, *(finding for arm in checkup.arms for finding in arm.findings)]
    return int(any(finding.severity != "info" for finding in found))


def _print(output: Output, checkup: Checkup, how: Examination) -> None:
    if output.as_json:
        from sosie.api.lines import json_of

        output.line(json_of(checkup))
    else:
        _show(output, checkup)
        if checkup.disk is not None and (output.verbose or how.purpose.quota or how.purpose.training):
            from sosie.doctor.disk import disk_table

            output.say(disk_table(checkup.disk, how.purpose.quota or None), lines=True)


def _show(output: Output, checkup: Checkup) -> None:
    m = checkup.what
    what = [checkup.kind, *([m.family, m.variant, m.without, m.layout, m.storage] if m else [])]
    size = [f"{m.parameters / 1e6:,.0f} M parameters"] if m and m.parameters else []
    bad = sum(finding.severity != "info" for finding in checkup.findings)
    state = "ok" if not bad else f"{bad} finding{'s' if bad > 1 else ''}"
    if checkup.arms:
        state = f"{sum(arm.is_stopped for arm in checkup.arms)} of {len(checkup.arms)} arms stopped"
    output.data("\t".join([checkup.subject, state, ", ".join([part for part in what if part] + size)]))
    for finding in checkup.findings:
        output.finding(finding, always=True)
    for arm in checkup.arms:
        about = arm.summary or "; ".join(arm.changes)
        output.data("\t".join([f"  {arm.name}", "stopped" if arm.is_stopped else "ready", about]))
        for finding in arm.findings:
            output.finding(replace(finding, message=f"{arm.name}: {finding.message}"), always=True)


def _explain(output: Output, code: str) -> None:
    from sosie.doctor.explain import explanation, paragraphs, title

    section = explanation(code)
    if output.as_json:
        output.line({"code": code, "title": title(section), **paragraphs(section)})
    else:
        output.data(section.removeprefix("## ").rstrip(), lines=True)
