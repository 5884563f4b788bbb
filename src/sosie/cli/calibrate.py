"""`sosie calibrate`: a character's own cohort of impostors."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import common, session
from sosie.cli.output import Output
from sosie.core import Finding, Progress
from sosie.core.finding import has_errors
from sosie.core.schema import to_table
from sosie.core.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.calibrate import Calibration


@click.command("calibrate")
@click.argument("character")
@click.option("--recipe", "recipe_name", help="The recipe to calibrate for. Default: the character's, else mini.")
@click.option("-n", "n", type=click.IntRange(20), default=60, show_default=True, help="How many impostors.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Another seed, other impostors."
)
@click.option("--engine", default="diffusers", show_default=True, help="What renders.")
@common
def command(character: str, recipe_name: str | None, output: Output, workspace: Workspace, **flags: Any) -> int:
    """Render impostors of CHARACTER (same description, no identity guide) and set thresholds by them.

    From then on the character's images are judged by this cohort in place of the shipped one.
    With fewer than 20 impostors a rate of 5 % cannot be told from 0.
    """
    from sosie.api.calibrate import CalibrationRequest, calibrate
    from sosie.api.characters import load_character
    from sosie.api.recipes import load_recipe

    whom = load_character(workspace, character)
    recipe = load_recipe(workspace, recipe_name or whom.recipe or "mini")
    findings: list[Finding] = []
    with (
        session(workspace) as opened,
        output.progress(),
        closing(calibrate(opened, CalibrationRequest(whom, recipe, **flags))) as events,
    ):
        for event in events:
            if isinstance(event, Finding):
                findings.append(event)
                output.finding(event)
            elif isinstance(event, Progress):
                if event.phase == "calibrate":
                    output.step(f"impostor {event.step} of {event.steps}", event.step, event.steps)
            else:
                _report(output, character, event)
    return 2 if has_errors(findings) else 0


def _report(output: Output, character: str, made: Calibration) -> None:
    if output.as_json:
        output.line({"character": character, **to_table(made), "path": str(made.path)})
    else:
        output.say(f"✓ {made.n} impostors of {character}; {made.without_face} images had no face and are left out")
        output.data(str(made.path))
