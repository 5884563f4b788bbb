"""The loop as a run of one thing after another: what the line must give, to the bit and in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sosie.core import Draw, Engine, Plan, Render, plan
from sosie.files.images import read_image
from sosie.loop.stages import origin_of
from sosie.loop.task import Attempt, Task
from sosie.store import Store, StoredRender
from sosie.store.images import pixels_digest


def serial_run(tasks: Sequence[Task], engine: Engine, store: Store, assets: Mapping[str, str]) -> Iterator[Attempt]:
    """Draws, stores and judges one image after another; nothing is delivered."""
    for task in tasks:
        pending = {index: Draw(index) for index in range(task.n)}
        spent = 0
        while pending and spent < task.budget:
            draws = list(pending.values())[: task.budget - spent]
            spent += len(draws)
            for draw in draws:
                planned = plan(task.recipe, task.character, task.request, draw, assets)
                attempt = _attempt(task, planned, engine, store)
                yield attempt
                following = _following(attempt)
                if following is None:
                    del pending[draw.index]
                else:
                    pending[draw.index] = following


def _attempt(task: Task, planned: Plan, engine: Engine, store: Store) -> Attempt:
    found = store.find_render(planned.id, engine.name)
    stored = found or _drawn(planned, engine, store)
    known = store.find_scorecard(stored.id, task.judge.id)
    if known is None:
        known = task.judge(read_image(stored.image), origin_of(planned, stored))
        store.add_scorecard(stored.id, task.judge.id, *known)
    return Attempt(task, planned, stored, *known, resumed=found is not None)


def _drawn(planned: Plan, engine: Engine, store: Store) -> StoredRender:
    (render,) = (event for event in engine.run([planned]) if isinstance(event, Render))
    if planned.watermark and pixels_digest(render.image) != planned.requested.source:
        from sosie.provenance.watermark import mark

        render = replace(render, image=mark(render.image, planned.id))
    return store.add_render(render)


def _following(attempt: Attempt) -> Draw | None:
    draw, outcome = attempt.plan.draw, attempt.verdict.outcome
    if outcome in ("keep", "reject"):
        return None
    source = attempt.stored.pixels if outcome == "repair" else ""
    return Draw(draw.index, draw.attempt + 1, attempt.plan.id, source)
