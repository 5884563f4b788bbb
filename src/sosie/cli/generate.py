"""`sosie generate`: images of a character that pass."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.cli.table import table
from sosie.core import Finding, Scorecard, Verdict
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.generation import Delivered, Order, Summary
    from sosie.engines.comfy.workflow import Workflow
    from sosie.families.contract.graphs import GraphChoices
    from sosie.workspace.session import Session


@click.command("generate")
@click.argument("character")
@click.argument("prompt", required=False)
@click.option(
    "--prompts",
    "file",
    type=PATH,
    help="A txt, csv, tsv or jsonl file: prompt, name, seed, size, negative_prompt, steps, cfg, sampler a line.",
)
@click.option("-n", "n", type=int, default=1, show_default=True, help="Images that must pass (of each prompt).")
@click.option("--recipe", "recipe_name", help="The recipe. Default: the character's, else mini.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="0 to 2^63-1; the same seed gives the same images."
)
@click.option("--size", help="WIDTHxHEIGHT in pixels. Default: the recipe's.")
@click.option("--negative", "negative_prompt", help="The negative prompt. Default: the recipe's.")
@click.option(
    "--attempts", type=int, default=8, show_default=True, help="Tries an image, on average: the budget is attempts x n."
)
@click.option(
    "--from",
    "given",
    type=PATH,
    help="An image to work on in place of a generated one: the recipe's stages after generate run on it.",
)
@click.option("--stages", help="Which stages to run, by kind: detail,upscale. Default: all that can.")
@click.option("--out", type=PATH, help="Where images and report go. Default: outputs/CHARACTER.")
@click.option(
    "--engine",
    default="diffusers",
    show_default=True,
    help="What renders: diffusers (this machine), comfy:http://HOST:8188 (a ComfyUI server; several with commas), "
    "comfy+ssh://USER@HOST:PORT (one on a machine reached by ssh), ray:HOST:PORT (the cards of a Ray cluster; ray: of "
    "this machine), ssh:USER@HOST (a machine that this Sosie is brought to; several with commas), "
    "pod:NAME (a rented one), shards:FOLDER (what machines drew of --plans FOLDER), or fake (for tests).",
)
@click.option(
    "--plans",
    "plans",
    type=PATH,
    metavar="FOLDER",
    help="Draw nothing: write the plans into FOLDER, for machines that each draw shards of them (see sosie worker).",
)
@click.option(
    "--workflow",
    type=PATH,
    help="Your own ComfyUI workflow in place of a recipe: a JSON file in the API format, or the editor's.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NODE.input=value",
    help="Change a value of the workflow, or say what a place of it is for: prompt=6.text, seed=3.seed, output=9.",
)
@click.option(
    "--face-detailer",
    is_flag=True,
    help="On ComfyUI: faces by Impact Pack's FaceDetailer, in place of Sosie's own face pass.",
)
@click.option(
    "--tiles",
    is_flag=True,
    help="On ComfyUI: draw enlarged images over, tile by tile, by Ultimate SD Upscale (SDXL only).",
)
@click.option(
    "--provenance/--no-provenance", default=True, show_default=True, help="Sign each image with a C2PA manifest."
)
@click.option(
    "--metadata",
    type=click.Choice(("none", "a1111", "sidecar")),
    default="none",
    show_default=True,
    help="Prompt, seed and settings for others: a1111 writes 'parameters' into the PNG, which CivitAI and PNG info "
    "read; sidecar writes a JSON file beside each image.",
)
@click.option(
    "--memory",
    default="auto",
    show_default=True,
    help="How GPU memory is used: auto, or the name of a mode (see docs/speed.md).",
)
@click.option("--compile/--no-compile", default=True, show_default=True, help="Compile for the GPU at the first image.")
@click.option(
    "--keep-loaded",
    type=float,
    default=0.0,
    metavar="MINUTES",
    help="Keep the models loaded that long, for the next commands with this option (see sosie worker).",
)
@click.option(
    "--devices",
    metavar="all|0,1",
    help="The cards to draw on, a process each: all, or their numbers. Default: the first (see docs/throughput.md).",
)
@common
def command(
    character: str, prompt: str | None, file: Path | None, output: Output, workspace: Workspace, **flags: Any
) -> int:
    """Make images of CHARACTER doing PROMPT, and deliver those that pass.

    mira+otto asks for both in one picture, by a recipe that shows the model their references (klein).

    Every attempt is recorded: the same command again does only what is missing. Exit 1 means
    that some prompt did not get all its images within the budget.
    """
    from sosie.api.generation import UNDERSTOOD, Delivered, Summary, generate

    with session(workspace) as opened:
        order = _order(workspace, character, _prompts(output, prompt, file, flags), flags)
        if flags["plans"] is not None:
            return _plan(output, opened, order, flags["plans"])
        done: list[Delivered] = []
        summary: Summary | None = None
        with output.progress(), closing(generate(opened, order)) as events:
            for event in events:
                output.event(event, always=isinstance(event, Finding) and event.code in UNDERSTOOD)
                if isinstance(event, Summary):
                    summary = event
                elif isinstance(event, Delivered):
                    done.append(event)
                    _show_attempt(output, event)
    return _finish(output, summary, done) if summary else 2


def _plan(output: Output, opened: Session, order: Order, folder: Path) -> int:
    """Writes plans in place of images."""
    from sosie.api.many.planning import Planned, plan_many

    for event in plan_many(opened, order, folder):
        if isinstance(event, Planned):
            told = {"folder": str(event.folder), "plans": event.plans, "shards": event.shards, "new": event.new}
            output.line(told) if output.as_json else output.data(str(event.folder))
            output.say(f"{event.plans} plans in {event.shards} shards, {event.new} of them new")
        else:
            output.event(event)
    output.say(f"each machine: sosie worker draw {folder}")
    return 0


def _order(workspace: Workspace, name: str, prompts: tuple[Any, ...], flags: dict[str, Any]) -> Order:
    from sosie.api.engines import Workers
    from sosie.api.generation import Given, Order
    from sosie.families.contract.draws import Settings
    from sosie.workspace.cast import load_cast
    from sosie.workspace.recipes import load_recipe

    choices = _choices(flags)
    character = load_cast(workspace, name)
    workflow = _workflow(workspace, flags)
    recipe = workflow.recipe if workflow else load_recipe(workspace, flags["recipe_name"] or character.recipe or "mini")
    return Order(
        character,
        recipe,
        prompts,
        flags["n"],
        flags["seed"],
        flags["out"] or workspace.root / "outputs" / name,
        flags["attempts"],
        flags["engine"],
        flags["provenance"],
        flags["negative_prompt"],
        Given(flags["given"], _kinds(flags["stages"])),
        Settings(flags["memory"], flags["compile"]),
        Workers(flags["devices"] or "", flags["keep_loaded"]),
        workflow,
        choices,
        flags["metadata"],
    )


def _choices(flags: dict[str, Any]) -> GraphChoices:
    """How ComfyUI's graphs are made. Raises `UsageError` for a choice that something else has no use for."""
    from sosie.engines import scheme_of
    from sosie.families.contract.graphs import GraphChoices

    given = [f"--{name.replace('_', '-')}" for name in ("face_detailer", "tiles") if flags[name]]
    if given and flags["workflow"] is not None:
        raise UsageError(f"{given[0]} is for recipes: a workflow is run as it is", "leave one of them out")
    if given and not scheme_of(flags["engine"]).runs_graphs:
        hint = "add --engine comfy:http://127.0.0.1:8188"
        raise UsageError(f"{given[0]} is for ComfyUI; engine '{flags['engine']}' has no such nodes", hint)
    return GraphChoices(faces="server" if flags["face_detailer"] else "sosie", tiles=flags["tiles"])


def _workflow(workspace: Workspace, flags: dict[str, Any]) -> Workflow | None:
    """The user's own graph, if one was given, with the changes to it."""
    path, changes = flags["workflow"], flags["changes"]
    if path is None:
        if changes:
            raise UsageError("--set changes a workflow, and none was given", "add --workflow FILE.json")
        return None
    given = {"--recipe": flags["recipe_name"], "--from": flags["given"], "--stages": flags["stages"]}
    if clash := [name for name, value in given.items() if value]:
        raise UsageError(f"{clash[0]} is for recipes, and --workflow takes the place of one", "leave one of them out")
    if flags["keep_loaded"] or flags["devices"]:
        which = "--devices" if flags["devices"] else "--keep-loaded"
        raise UsageError(f"{which} is for engines on this machine; a ComfyUI server keeps its models itself")
    from sosie.api.engines import open_users_workflow

    return open_users_workflow(workspace, path, changes, flags["engine"])


def _kinds(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _prompts(output: Output, prompt: str | None, file: Path | None, flags: dict[str, Any]) -> tuple[Any, ...]:
    """The lines that are asked for. What a line says itself counts more than a flag; PROMPT says less than one."""
    from sosie.workspace.prompts import PromptLine, parse_size
    from sosie.workspace.prompts.files import read_prompt_file

    size = flags["size"]
    if size:
        parse_size(size)
    if prompt is not None and file is not None:
        raise UsageError("both PROMPT and --prompts were given; expected one of them", "sosie generate --help")
    if file is not None:
        read = read_prompt_file(file)
        for finding in read.findings:
            output.finding(finding)
        return tuple(replace(line, size=line.size or size or "") for line in read.lines)
    if prompt is not None and not prompt.strip():
        raise UsageError(
            "the prompt is empty; expected a text, or no PROMPT for the recipe's own", "sosie generate --help"
        )
    given = click.get_current_context().get_parameter_source("seed") is not ParameterSource.DEFAULT
    return (PromptLine(prompt or "", "", flags["seed"] if given else None, size or "", flags["negative_prompt"]),)


def _show_attempt(output: Output, item: Delivered) -> None:
    from sosie.doctor.graph_structure import W009

    attempt = item.attempt
    if output.as_json:
        from sosie.api.lines import json_of

        output.line(json_of(item))
    elif item.kept:
        output.data(str(item.image))
    for finding in attempt.stored.notes.findings:
        if finding.severity != "error":
            output.finding(finding, always=finding.code == W009.code)
    if not item.kept:
        output.say(
            f"✗ attempt {attempt.plan.draw.attempt + 1} of image {attempt.plan.draw.index + 1}: "
            + "; ".join(attempt.verdict.reasons)
            + (" (its face is mended next)" if attempt.verdict.outcome == "repair" else "")
        )
    elif output.verbose:
        output.say(f"✓ {item.image.name}" + (" (from the store)" if attempt.resumed else ""))


def _finish(output: Output, summary: Summary, done: list[Delivered]) -> int:
    if not output.quiet:
        output.console.print(table([_table_row(item) for item in done]))
        output.say(f"contact sheet: {summary.sheet}")
        output.say(f"report: {summary.page}")
    for task, kept in summary.short:
        failed = Counter(
            score.name
            for item in done
            if item.attempt.task == task and not item.kept
            for score in item.attempt.scorecard.scores
            if score.passed is False
        )
        why = ", ".join(f"{name} {count} times" for name, count in failed.most_common()) or "nothing could be measured"
        name = task.name or task.request.prompt
        what = f"prompt '{name}'" if name else "the request"
        output.error(
            f"{what} stayed short: {kept} of {task.n} images passed within {task.budget} attempts (failed: {why})",
            "raise --attempts, try another --seed or prompt, or look at the report",
        )
    return 1 if summary.short else 0


def _table_row(item: Delivered) -> tuple[str, Scorecard, Verdict, float | None]:
    attempt = item.attempt
    name = item.image.name if item.kept else f"{attempt.plan.id[:8]} (store)"
    return name, attempt.scorecard, attempt.verdict, attempt.stored.seconds
