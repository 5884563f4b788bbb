"""The arms of an experiment as recipes, and their cells: one plan for each prompt and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sosie.core import Character, Draw, Plan, Recipe, Request, plan
from sosie.core.errors import SosieError
from sosie.core.finding import RuleError
from sosie.lab.changes import axes_of, changed, combinations, told
from sosie.lab.experiment import MOST_CELLS, Q001, Arm, Experiment
from sosie.workspace.recipes import find_recipe, recipe_of, recipe_table
from sosie.workspace.workspace import Workspace


@dataclass(frozen=True)
class ArmRecipe:
    """An arm as it is drawn: its recipe and its prompts. `changes` says what it does otherwise, each in a few words.

    With a `problem` it makes no recipe.
    """

    name: str
    summary: str
    changes: tuple[str, ...]
    prompts: tuple[str, ...]
    recipe: Recipe | None = None
    problem: SosieError | None = None


def arm_recipes(workspace: Workspace, experiment: Experiment, where: str) -> list[ArmRecipe]:
    """The arms in the order of the file, those of the axes first.

    Raises `RuleError` (SOS-Q001) for a recipe that is not there, changes of all arms or axes that are wrong, and too
    many cells.
    """
    try:
        found = find_recipe(workspace, experiment.recipe)
        base = changed(recipe_table(found.path), experiment.change, where, "change")
        axes = axes_of(experiment.axes, where)
    except SosieError as error:
        raise RuleError(Q001, error.message, error.hint) from None
    count = len(experiment.arms)
    if axes:
        combined = 1
        for _, values in axes:
            combined *= len(values)
        count += combined
    if count * experiment.blocks > MOST_CELLS:
        message = f"{where}: {count:,} arms x {experiment.blocks:,} images are more than {MOST_CELLS:,} cells"
        raise RuleError(Q001, message, "take values off the axes, or prompts, or seeds")
    crossed = [Arm(name, change=change) for name, change in combinations(axes)] if axes else []
    return [_arm_recipe(base, arm, experiment, where) for arm in (*crossed, *experiment.arms)]


def cells(arm: ArmRecipe, experiment: Experiment, character: Character, assets: Mapping[str, str]) -> Iterator[Plan]:
    """The arm's plans, seed by seed of each prompt. `assets` maps what its recipe names to digests, as in `plan`."""
    if arm.recipe is None:
        raise arm.problem or RuleError(Q001, f"arm '{arm.name}' makes no recipe")
    for prompt in arm.prompts:
        for seed in experiment.seeds:
            request = Request(arm.recipe.name, character.name, prompt, seed=seed)
            yield plan(arm.recipe, character, request, Draw(), assets)


def _arm_recipe(base: Mapping[str, object], arm: Arm, experiment: Experiment, where: str) -> ArmRecipe:
    changes = tuple(told(arm.change))
    if arm.prompts:
        changes += (f"prompts = {', '.join(repr(prompt) for prompt in arm.prompts)}",)
    prompts = arm.prompts or experiment.prompts
    at = f"{where}: arm '{arm.name}'"
    try:
        recipe = recipe_of(changed(base, arm.change, at), at, experiment.recipe)
    except SosieError as error:
        return ArmRecipe(arm.name, arm.summary, changes, prompts, problem=error)
    return ArmRecipe(arm.name, arm.summary, changes, prompts, recipe)
