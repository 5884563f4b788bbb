"""What an experiment asks: which arms are compared with which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sosie.core.errors import nearest
from sosie.core.experiment_result import Design
from sosie.core.finding import Rule, RuleError
from sosie.lab.arms import ArmRecipe

Q005 = Rule("SOS-Q005", "error", "An experiment's design does not fit its arms")


@dataclass(frozen=True)
class Question:
    """Whether the mean of `arms` lies above the mean of `against`, block by block. `axis` and `level` name a level."""

    name: str
    arms: tuple[str, ...]
    against: tuple[str, ...]
    axis: str = ""
    level: str = ""


def baseline(design: Design, arms: Sequence[ArmRecipe]) -> ArmRecipe:
    """The arm that the others are compared with. Raises `RuleError` (SOS-Q005) for a name that none has."""
    if not design.baseline:
        return arms[0]
    found = next((arm for arm in arms if arm.name == design.baseline), None)
    if found is None:
        known = nearest(design.baseline, [arm.name for arm in arms])
        raise RuleError(Q005, f"design.baseline: no arm is called '{design.baseline}'{known}")
    return found


def questions(design: Design, arms: Sequence[ArmRecipe]) -> tuple[Question, ...]:
    """Those of the design, in the order of the arms. Raises `RuleError` (SOS-Q005) for what there is not."""
    names = [arm.name for arm in arms]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise RuleError(Q005, f"two arms are called '{twice[0]}'", "an axis has a value twice, or an arm its name")
    base = baseline(design, arms)
    if design.unit == "training run":
        found = _of_treatments(base, arms)
    elif design.compare == "axes":
        found = _of_axes(base, arms)
    else:
        found = tuple(_question((arm.name,), (base.name,)) for arm in arms if arm.name != base.name)
    if design.contrasts:
        known = {name for one in found for name in (one.name, *_short(one))}
        if unknown := [name for name in design.contrasts if name not in known]:
            raise RuleError(
                Q005, f"design.contrasts: '{unknown[0]}' is none of its questions{nearest(unknown[0], known)}"
            )
        found = tuple(one for one in found if {one.name, *_short(one)} & set(design.contrasts))
    if not found:
        raise RuleError(Q005, "there is nothing to compare", "add an arm, or a value to an axis")
    return found


def _short(question: Question) -> tuple[str, ...]:
    """The other names by which a design may call a question: what is asked about, alone."""
    return (question.name.partition(" against ")[0],)


def _question(arms: tuple[str, ...], against: tuple[str, ...]) -> Question:
    return Question(f"{arms[0]} against {against[0]}", arms, against)


def _of_axes(base: ArmRecipe, arms: Sequence[ArmRecipe]) -> tuple[Question, ...]:
    """Each level of each axis against the baseline's level: the means over the arms that have them."""
    crossed = [arm for arm in arms if arm.levels]
    if not base.levels:
        raise RuleError(Q005, f"design.compare = 'axes': the baseline '{base.name}' is on no axis")
    found: list[Question] = []
    for axis, own in base.levels.items():
        against = tuple(arm.name for arm in crossed if arm.levels[axis] == own)
        for level in dict.fromkeys(arm.levels[axis] for arm in crossed):
            if level != own:
                same = tuple(arm.name for arm in crossed if arm.levels[axis] == level)
                found.append(Question(f"{axis}={level} against {axis}={own}", same, against, axis, level))
    return tuple(found)


def _of_treatments(base: ArmRecipe, arms: Sequence[ArmRecipe]) -> tuple[Question, ...]:
    """Each treatment against the baseline's: their arms are its training runs."""
    if without := [arm.name for arm in arms if not arm.arm.treatment]:
        raise RuleError(Q005, f"arm '{without[0]}' names no treatment, and the unit is a training run")
    runs = {name: tuple(arm.name for arm in arms if arm.arm.treatment == name) for name in _treatments(arms)}
    own = base.arm.treatment
    return tuple(Question(f"{name} against {own}", runs[name], runs[own], level=name) for name in runs if name != own)


def _treatments(arms: Sequence[ArmRecipe]) -> list[str]:
    return list(dict.fromkeys(arm.arm.treatment for arm in arms))
