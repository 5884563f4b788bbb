"""Whether an experiment can answer its question, before anything is drawn: each arm is examined as a recipe is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.core import Character, Finding, Plan
from sosie.core.errors import SosieError
from sosie.core.finding import Rule, RuleError, has_errors
from sosie.core.plan import needed_stages
from sosie.doctor.recipes import NOT_HERE, check_recipe
from sosie.doctor.words import check_words
from sosie.lab.arms import ArmRecipe, arm_recipes, cells
from sosie.lab.experiment import Q001, Experiment
from sosie.lab.questions import questions
from sosie.workspace.bill import resolve
from sosie.workspace.characters import load_character
from sosie.workspace.workspace import Workspace

Q002 = Rule("SOS-Q002", "error", "Two arms are the same")
Q003 = Rule("SOS-Q003", "info", "What an arm changes is not what stops it")
Q004 = Rule("SOS-Q004", "warning", "The character of an experiment is not there")


@dataclass(frozen=True)
class CheckedArm:
    """An arm with what was found in it alone. `is_stopped`: an error is among these, or among those of all arms."""

    name: str
    summary: str
    changes: tuple[str, ...]
    findings: tuple[Finding, ...]
    is_stopped: bool


@dataclass(frozen=True)
class CheckedExperiment:
    """The arms, and the findings that all of them have or that are about the experiment itself."""

    experiment: Experiment
    arms: tuple[CheckedArm, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Examined:
    """An arm, its plans of one seed, and all that was found in it."""

    arm: ArmRecipe
    plans: tuple[Plan, ...]
    findings: tuple[Finding, ...]


def check_experiment(workspace: Workspace, experiment: Experiment, path: Path) -> CheckedExperiment:
    """SOS-Q001 to Q005, and the findings of each arm's recipe and words; no weight is loaded.

    Raises `RuleError` (SOS-Q001) where no arm can be looked at.
    """
    return check_arms(workspace, experiment, arm_recipes(workspace, experiment, str(path)))


def check_arms(
    workspace: Workspace, experiment: Experiment, arms: Sequence[ArmRecipe], remote: bool = False
) -> CheckedExperiment:
    """The same of arms that were read already. With `remote`, what is missing here may be on an engine's servers."""
    character, about = _character(workspace, experiment)
    examined = [_examine(workspace, experiment, arm, character, remote) for arm in arms]
    about += _design(experiment, arms)
    shared = _shared(examined)
    about += [*shared, *_same(examined, experiment)]
    stops_all = has_errors(about)
    checked = tuple(_checked(one, shared, stops_all) for one in examined)
    return CheckedExperiment(experiment, checked, tuple(about))


def expect_recipes(experiment: Experiment, arms: Sequence[ArmRecipe]) -> None:
    """What a dry run says no to: an arm that makes no recipe (SOS-Q001), two that make the same (SOS-Q002).

    Raises `RuleError`. Files are not looked at: that is the doctor's, and a run's.
    """
    seen: dict[tuple[str, tuple[str, ...], str], str] = {}
    for one in arms:
        if one.recipe is None:
            problem = one.problem
            raise RuleError(Q001, problem.message if problem else "it makes no recipe", problem.hint if problem else "")
        first = seen.setdefault((repr(one.recipe), one.prompts, one.arm.engine), one.name)
        if first != one.name and experiment.design.unit == "image":
            raise RuleError(Q002, *_told_twice(first, one.name))


def _told_twice(first: str, other: str) -> tuple[str, str]:
    message = f"arms '{first}' and '{other}' resolve to the same plans: nothing could tell them apart"
    return message, "change something in one of them, or take it out"


def _character(workspace: Workspace, experiment: Experiment) -> tuple[Character, list[Finding]]:
    try:
        return load_character(workspace, experiment.character), []
    except SosieError as error:
        message = f"{error.message}; the arms are examined for somebody without a LoRA"
        stand_in = Character(experiment.character, "fictional", True, description="a person")
        return stand_in, [Q004.at(experiment.name, message, error.hint)]


def _design(experiment: Experiment, arms: Sequence[ArmRecipe]) -> list[Finding]:
    """SOS-Q005 where the design names what there is not."""
    try:
        questions(experiment.design, arms)
    except RuleError as error:
        return [error.finding(experiment.name)]
    return []


def _examine(
    workspace: Workspace, experiment: Experiment, arm: ArmRecipe, character: Character, remote: bool
) -> _Examined:
    if arm.recipe is None:
        problem = arm.problem
        said = (problem.message, problem.hint) if problem else ("it makes no recipe", "")
        return _Examined(arm, (), (Q001.at(experiment.name, *said),))
    bill = resolve(workspace, needed_stages(arm.recipe, character), character, remote)
    findings = [one for one in check_recipe(arm.recipe, bill) if not (remote and one.code in NOT_HERE)]
    one_seed = replace(experiment, seeds=experiment.seeds[:1])
    try:
        plans = tuple(cells(arm, one_seed, character, dict.fromkeys(bill.entries, "")))
    except SosieError as error:
        return _Examined(arm, (), (*findings, Q001.at(experiment.name, error.message, error.hint)))
    for one in plans:
        findings += check_words(one, bill)
    return _Examined(arm, plans, tuple(dict.fromkeys(findings)))


def _shared(examined: Sequence[_Examined]) -> list[Finding]:
    """What was found in every arm; of one arm nothing is, for there all is its own."""
    if len(examined) < 2:
        return []
    return [found for found in examined[0].findings if all(found in one.findings for one in examined[1:])]


def _same(examined: Sequence[_Examined], experiment: Experiment) -> Iterator[Finding]:
    """SOS-Q002 for arms that resolve to the same plans."""
    seen: dict[tuple[str, ...], str] = {}
    for one in examined:
        ids = tuple(plan.id for plan in one.plans)
        if not ids:
            continue
        first = seen.setdefault(ids, one.arm.name)
        if first != one.arm.name:
            yield Q002.at(experiment.name, *_told_twice(first, one.arm.name))


def _checked(one: _Examined, shared: Sequence[Finding], stops_all: bool) -> CheckedArm:
    arm = one.arm
    own = [finding for finding in one.findings if finding not in shared]
    if not own and has_errors(shared) and arm.changes:
        stops = ", ".join(dict.fromkeys(finding.code for finding in shared if finding.severity == "error"))
        message = f"{', '.join(arm.changes)}: fine by itself; it is stopped by what stops every arm ({stops})"
        own.append(Q003.at(arm.name, message))
    return CheckedArm(arm.name, arm.summary, arm.changes, tuple(own), stops_all or has_errors(own))
