"""`sosie calibrate`: a character's own cohort of impostors."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.core import Finding
from sosie.core.errors import UsageError
from sosie.core.finding import has_errors
from sosie.core.schema import to_table
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.calibration import Calibration
    from sosie.engines.comfy.workflow import Workflow


@click.command("calibrate")
@click.argument("character")
@click.option("--recipe", "recipe_name", help="The recipe to calibrate for. Default: the character's, else mini.")
@click.option("-n", "n", type=click.IntRange(20), default=60, show_default=True, help="How many impostors.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Another seed, other impostors."
)
@click.option("--engine", default="diffusers", show_default=True, help="What renders.")
@click.option(
    "--workflow",
    "file",
    type=PATH,
    help="Calibrate for your own ComfyUI workflow in place of a recipe: its face guides and the character's LoRAs "
    "are taken out.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NODE.input=value",
    help="As for generate. A strength or weight of 0 takes out what Sosie does not know: LoraLoader.strength_model=0.",
)
@common
def command(character: str, recipe_name: str | None, output: Output, workspace: Workspace, **flags: Any) -> int:
    """Render impostors of CHARACTER (same description, no identity guide) and set thresholds by them.

    From then on the character's images are judged by this cohort in place of the shipped one, or of the
    references' likeness to each other. With fewer than 20 impostors a rate of 5 % cannot be told from 0.
    """
    from sosie.api.calibration import Calibration, CalibrationRequest, calibrate
    from sosie.api.impostors import J006
    from sosie.workspace.characters import load_character
    from sosie.workspace.recipes import load_recipe

    whom = load_character(workspace, character)
    workflow = _workflow(workspace, recipe_name, flags["engine"], flags.pop("file"), flags.pop("changes"))
    recipe = workflow.recipe if workflow else load_recipe(workspace, recipe_name or whom.recipe or "mini")
    findings: list[Finding] = []
    with (
        session(workspace) as opened,
        output.progress(),
        closing(calibrate(opened, CalibrationRequest(whom, recipe, **flags, workflow=workflow))) as events,
    ):
        for event in events:
            if isinstance(event, Calibration):
                _report(output, character, event)
                continue
            output.event(event, always=isinstance(event, Finding) and event.code == J006.code)
            if isinstance(event, Finding):
                findings.append(event)
    return 2 if has_errors(findings) else 0


def _workflow(
    workspace: Workspace, recipe: str | None, engine: str, path: Path | None, changes: tuple[str, ...]
) -> Workflow | None:
    """The user's own graph, if one was given."""
    if path is None:
        if changes:
            raise UsageError("--set changes a workflow, and none was given", "add --workflow FILE.json")
        return None
    if recipe:
        raise UsageError("--recipe and --workflow take the place of each other", "leave one of them out")
    from sosie.api.engines import open_users_workflow

    return open_users_workflow(workspace, path, changes, engine)


def _report(output: Output, character: str, made: Calibration) -> None:
    if output.as_json:
        output.line({"character": character, **to_table(made), "path": str(made.path)})
    else:
        output.say(f"✓ {made.n} impostors of {character}; {made.without_face} images had no face and are left out")
        output.data(str(made.path))
