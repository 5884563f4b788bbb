"""Attempts: one plan after another until a task has its images or its budget is spent."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sosie.core import Character, Draw, Engine, Note, Plan, Progress, Recipe, Render, Request, Scorecard, Verdict, plan
from sosie.files.images import read_image
from sosie.loop.judge import Judge, Origin
from sosie.store.images import pixels_digest

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.store import Store, StoredRender


@dataclass(frozen=True)
class Task:
    """`n` images of one character for one request, within `budget` attempts in all; a repair is one of them.

    `judge` scores and judges them.
    """

    name: str
    recipe: Recipe
    character: Character
    request: Request
    n: int
    budget: int
    judge: Judge


@dataclass(frozen=True, eq=False)
class Attempt:
    """One finished attempt of a task: what was planned, made, measured and decided.

    `resumed` is True when the store already held the image.
    """

    task: Task
    plan: Plan
    stored: StoredRender
    scorecard: Scorecard
    verdict: Verdict
    resumed: bool


@dataclass(frozen=True, eq=False)
class Bench:
    """What all tasks share: an engine, the store, and the digests of what their recipes name."""

    engine: Engine
    store: Store
    assets: Mapping[str, str]


def run(tasks: Sequence[Task], bench: Bench) -> Generator[Progress | Note | Attempt]:
    """Works through the tasks in order; every attempt is recorded before it is yielded.

    A note gives the final prompt, with trigger words and description, before it is drawn.
    """
    for task in tasks:
        yield from _run_task(task, bench)


def first_plan(task: Task, assets: Mapping[str, str]) -> Plan:
    """The first attempt at a task's first image: what an engine checks before the run."""
    return plan(task.recipe, task.character, task.request, Draw(), assets)


def _run_task(task: Task, bench: Bench) -> Generator[Progress | Note | Attempt]:
    pending = {index: Draw(index) for index in range(task.n)}
    spent = 0
    while pending and spent < task.budget:
        draws = list(pending.values())[: task.budget - spent]
        plans = [plan(task.recipe, task.character, task.request, draw, bench.assets) for draw in draws]
        spent += len(plans)
        for event in _attempt(task, plans, bench):
            yield event
            if isinstance(event, Attempt):
                following = _following(event)
                if following is None:
                    del pending[event.plan.draw.index]
                else:
                    pending[following.index] = following


def _following(attempt: Attempt) -> Draw | None:
    """What comes after an attempt: nothing, the repair of its image, or a new image."""
    draw, outcome = attempt.plan.draw, attempt.verdict.outcome
    if outcome in ("keep", "reject"):
        return None
    source = attempt.stored.pixels if outcome == "repair" else ""
    return Draw(draw.index, draw.attempt + 1, attempt.plan.id, source)


def _attempt(task: Task, plans: Sequence[Plan], bench: Bench) -> Generator[Progress | Note | Attempt]:
    missing: list[Plan] = []
    for planned in plans:
        stored = bench.store.find_render(planned.id, bench.engine.name)
        if stored is None:
            missing.append(planned)
        else:
            yield _judged(task, planned, stored, bench, None)
    if not missing:
        return
    prompts = dict.fromkeys(planned.prompt for planned in missing if planned.prompt)
    yield from (Note(f"prompt: {prompt}") for prompt in prompts)
    for event in bench.engine.run(missing):
        if isinstance(event, Progress):
            yield event
        else:
            render = _marked(event)
            stored = bench.store.add_render(render)
            yield _judged(task, render.plan, stored, bench, render.image)


def _marked(render: Render) -> Render:
    """The render with its plan's watermark: what is stored, judged and delivered is one and the same.

    A given image that came back as it was stays so.
    """
    if not render.plan.watermark or pixels_digest(render.image) == render.plan.requested.source:
        return render
    from sosie.provenance.watermark import mark

    return replace(render, image=mark(render.image, render.plan.id))


def _judged(task: Task, planned: Plan, stored: StoredRender, bench: Bench, image: Image | None) -> Attempt:
    """Takes the verdict from the store, or scores the image and records it."""
    known = bench.store.find_scorecard(stored.id, task.judge.id)
    if known is None:
        measures = stored.notes.measures
        face = (measures["detail.x"], measures["detail.y"]) if {"detail.x", "detail.y"} <= measures.keys() else None
        final = _is_final(planned, stored)
        origin = Origin(stored.notes.findings, planned.draw.is_repair, final, planned.prompt, face)
        known = task.judge(image if image is not None else read_image(stored.image), origin)
        bench.store.add_scorecard(stored.id, task.judge.id, *known)
    return Attempt(task, planned, stored, *known, resumed=image is None)


def _is_final(planned: Plan, stored: StoredRender) -> bool:
    """Whether a given image came back as it was: then no other seed would change it."""
    return bool(planned.requested.source) and stored.pixels == planned.requested.source
