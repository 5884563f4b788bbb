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

    `levels` are its values on the axes. With a `problem` it makes no recipe.
    """

    arm: Arm
    changes: tuple[str, ...]
    prompts: tuple[str, ...]
    levels: Mapping[str, str]
    recipe: Recipe | None = None
    problem: SosieError | None = None

    @property
    def name(self) -> str:
        """The arm's."""
        return self.arm.name

    @property
    def summary(self) -> str:
        """The arm's."""
        return self.arm.summary

    @property
    def whole(self) -> Recipe:
        """The recipe; raises its `problem` where there is none."""
        if self.recipe is None:
            raise self.problem or RuleError(Q001, f"arm '{self.name}' makes no recipe")
        return self.recipe


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
    crossed = list(combinations(axes)) if axes else []
    found = [(Arm(_name(levels), change=change), levels) for levels, change in crossed]
    found += [(arm, {}) for arm in experiment.arms]
    return [_arm_recipe(base, arm, levels, experiment, where) for arm, levels in found]


def cells(arm: ArmRecipe, experiment: Experiment, character: Character, assets: Mapping[str, str]) -> Iterator[Plan]:
    """The arm's plans, seed by seed of each prompt. `assets` maps what its recipe names to digests, as in `plan`."""
    for prompt in range(len(arm.prompts)):
        for seed in experiment.seeds:
            yield plan(arm.whole, character, request_of(arm, experiment, prompt, seed), Draw(), assets)


def request_of(arm: ArmRecipe, experiment: Experiment, prompt: int, seed: int) -> Request:
    """What one cell asks for: the prompt at that place, and that seed."""
    return Request(arm.whole.name, experiment.character, arm.prompts[prompt], seed=seed)


def _name(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{axis}={level}" for axis, level in levels.items())


def _arm_recipe(
    base: Mapping[str, object], arm: Arm, levels: Mapping[str, str], experiment: Experiment, where: str
) -> ArmRecipe:
    changes = tuple(told(arm.change))
    if arm.prompts:
        changes += (f"prompts = {', '.join(repr(prompt) for prompt in arm.prompts)}",)
    prompts = arm.prompts or experiment.prompts
    at = f"{where}: arm '{arm.name}'"
    try:
        recipe = recipe_of(changed(base, arm.change, at), at, experiment.recipe)
    except SosieError as error:
        return ArmRecipe(arm, changes, prompts, levels, problem=error)
    return ArmRecipe(arm, changes, prompts, levels, recipe)
