"""What a course found, as the one noun that everything else is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from sosie import __version__
from sosie.core import Finding
from sosie.core.experiment_result import ArmResult, Cell, Contrast, Design, ExperimentResult, Measured, State
from sosie.core.schema import to_table
from sosie.lab.arms import ArmRecipe
from sosie.lab.course import Course
from sosie.lab.endpoint import LEAST_FRESH
from sosie.lab.questions import Question
from sosie.scorers.statistics import wilson
from sosie.statistics.bootstrap import bootstrap_mean
from sosie.statistics.power import Trial as Plan
from sosie.statistics.power import smallest_difference

CLIPPED = 0.05
"""Beyond this share of clipped differences the mean that is claimed may not be the mean of the images."""


@dataclass(frozen=True)
class Times:
    """When a run began and ended, ISO 8601 in UTC."""

    started: str
    finished: str


def assemble(course: Course, times: Times) -> ExperimentResult:
    """The result so far: what was not drawn is missing, and the state says so."""
    trial, experiment = course.trial, course.trial.experiment
    design = trial.design
    contrasts = _in_order(trial.questions, course.contrasts(), trial.stopped, design)
    cells = course.sheet.cells
    state: State = "empty" if not cells else "finished" if course.is_whole else "stopped"
    dropped = {one.arms[0]: course.race.dropped[one.name] for one in trial.drawn if one.name in course.race.dropped}
    arms = tuple(_arm(arm, course, dropped.get(arm.name)) for arm in trial.arms)
    return ExperimentResult(
        id=trial.id,
        name=experiment.name,
        design_digest=trial.digest,
        question=experiment.question,
        character=experiment.character,
        recipe=experiment.recipe,
        state=state,
        started=times.started,
        finished=times.finished,
        design=design,
        scale=trial.endpoint.scale,
        floor=trial.endpoint.floor,
        smallest=smallest(design, experiment.blocks, len(trial.drawn), _arms_a_side(trial.drawn)),
        blocks=experiment.blocks,
        prompts=experiment.prompts,
        seeds=experiment.seeds,
        fresh_seeds=course.fresh,
        arms=arms,
        contrasts=contrasts,
        winner=course.winner,
        cells=cells,
        deviations=tuple(_deviations(course, arms, contrasts, state)),
        findings=trial.findings,
        models=trial.models,
        judges=trial.judges,
        environments=tuple(course.drawer.environments),
        command=f"sosie experiment run {trial.ask.path.name}",
        version=__version__,
        declared=to_table(experiment),
    )


def smallest(design: Design, blocks: int, contrasts: int, arms_a_side: int) -> float | None:
    """The smallest difference that such a plan can show (`smallest_difference`); None: none below the clip.

    Means over several arms spread less: their images' noise is their own. Training runs are not simulated.
    """
    if design.unit == "training run" or not contrasts or design.sd is None or design.clip is None:
        return None
    sd = design.sd / arms_a_side**0.5
    return smallest_difference(Plan(blocks, contrasts, sd, design.clip, design.alpha, design.every, design.stopping))


def _arms_a_side(questions: Sequence[Question]) -> int:
    return min((min(len(one.arms), len(one.against)) for one in questions), default=1)


def _in_order(
    asked: Sequence[Question], found: Sequence[Contrast], stopped: Mapping[str, Finding], design: Design
) -> tuple[Contrast, ...]:
    """The contrasts in the order of the questions; one whose arm was stopped is undecided, and says why."""
    by_name = {one.name: one for one in found}
    level = found[0].level if found else 1 - design.alpha

    def of(question: Question) -> Contrast:
        if question.name in by_name:
            return by_name[question.name]
        arm = next(arm for arm in (*question.arms, *question.against) if arm in stopped)
        note = f"arm '{arm}' was not drawn: {stopped[arm].code}"
        arms, against = question.arms, question.against
        return Contrast(question.name, arms, against, 0, None, None, None, level, None, "undecided", note=note)

    return tuple(map(of, asked))


def _arm(arm: ArmRecipe, course: Course, dropped: int | None) -> ArmResult:
    trial = course.trial
    cells = course.sheet.of(arm.name)
    lane = trial.lanes.get(arm.name)
    drawn = [cell for cell in cells if cell.error is None]
    kept = wilson(sum(bool(cell.kept) for cell in cells), len(cells))
    return ArmResult(
        arm.name,
        arm.summary,
        arm.changes,
        dict(arm.levels),
        lane.bench.engine.name if lane else "",
        len(cells),
        len(cells) - len(drawn),
        sum(cell.score is None for cell in drawn),
        _mean({_key(cell): cell.counted for cell in cells}, course),
        Measured(kept.rate, kept.low, kept.high, kept.n, "Wilson") if cells else None,
        _others(drawn, course),
        median(cell.seconds for cell in drawn if cell.seconds is not None) if drawn else None,
        dropped,
        arm.arm.treatment,
    )


def _others(cells: Sequence[Cell], course: Course) -> dict[str, Measured]:
    """The means of all else that was measured, of the images that have a value."""
    names = dict.fromkeys(name for cell in cells for name in cell.scores)
    found: dict[str, Measured] = {}
    for name in names:
        values = {_key(cell): value for cell in cells if (value := cell.scores.get(name)) is not None}
        if mean := _mean(values, course):
            found[name] = mean
    return found


def _key(cell: Cell) -> tuple[int, int]:
    return cell.prompt, cell.seed


def _mean(values: Mapping[tuple[int, int], float], course: Course) -> Measured | None:
    if not values:
        return None
    seeds = course.trial.experiment.seeds
    table = np.full((len(course.trial.experiment.prompts), len(seeds)), np.nan)
    for (prompt, seed), value in values.items():
        table[prompt, seeds.index(seed)] = value
    found = bootstrap_mean(table)
    return Measured(found.value, found.low, found.high, found.n, found.by) if found else None


def _deviations(
    course: Course, arms: Sequence[ArmResult], contrasts: Sequence[Contrast], state: State
) -> Iterator[str]:
    """What departed from the design, or limits what may be said, in sentences."""
    trial = course.trial
    for name, finding in trial.stopped.items():
        yield f"Arm '{name}' was not drawn: {finding.message} ({finding.code})."
    if state == "stopped":
        seen = max((arm.blocks for arm in arms), default=0)
        missing = "images of other blocks" if seen < trial.experiment.blocks else "the winner's images of fresh seeds"
        yield f"It was stopped after {seen} of {trial.experiment.blocks} blocks: {missing} are missing."
    if failed := sum(arm.failed for arm in arms):
        yield f"{failed} images could not be drawn; each counts {trial.endpoint.floor:.3g}."
    if faceless := sum(arm.faceless for arm in arms):
        yield f"{faceless} images could not be judged; each counts {trial.endpoint.floor:.3g}."
    for one in contrasts:
        if one.clipped > CLIPPED:
            share = f"{100 * one.clipped:.0f} % of the differences"
            yield f"{one.name}: {share} lie beyond the clip; the mean is of clipped ones."
    if (won := course.winner) and won.earlier:
        yield f"The winner's fresh blocks count those of {', '.join(won.earlier)}, which measured the same again."
    if won and won.fresh and won.fresh.n < LEAST_FRESH:
        yield f"The winner was measured again on {won.fresh.n} blocks: fewer than {LEAST_FRESH} confirm nothing."
    if len(course.drawer.environments) > 1:
        yield f"The images were drawn in {len(course.drawer.environments)} environments."
