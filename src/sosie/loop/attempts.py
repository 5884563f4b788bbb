"""Attempts: images are drawn, stored, judged and delivered, each while others are, until every task has its own.

The engine works in the thread of whoever reads the events, as if there were nothing else; the `line` does the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sosie.core import Draw, Finding, Note, Plan, Progress, Render, plan
from sosie.loop.line import Line
from sosie.loop.task import Attempt, Bench, Drawn, Task

Happening = Progress | Note | Finding | Drawn | Attempt
"""What is told while tasks are worked through."""


def run(tasks: Sequence[Task], bench: Bench) -> Generator[Happening]:
    """Works through the tasks; every attempt is recorded, and delivered if it is kept, before it is yielded.

    Attempts come in the order in which a run of one thing after another would yield them, and are the same. A note
    gives the final prompt, with trigger words and description, when it is drawn. After an error everything that was
    drawn is finished and yielded before the error is raised; after an interrupt it is stored.
    """
    with Line(tasks, bench) as line:
        yield from line.until_asked()
        while not line.ended:
            yield from _draw(line, bench)
            if not line.ended:
                line.give_up()
            yield from line.until_asked()
        yield from line.rest()


def first_plan(task: Task, assets: Mapping[str, str]) -> Plan:
    """The first attempt at a task's first image: what an engine checks before the run."""
    return plan(task.recipe, task.character, task.request, Draw(), assets)


def _draw(line: Line, bench: Bench) -> Generator[Happening]:
    """Has the engine draw what the line asks for, until it asks for nothing any more."""
    try:
        with _closed_early(bench.engine.run(line)) as events:
            for event in events:
                yield from line.news()
                if isinstance(event, Render):
                    yield Drawn(event.plan)
                    yield from line.add(event)
                else:
                    yield event
                if line.ended:  # what is still drawn is not needed
                    return
    except Exception:
        line.stop()
        yield from line.rest()
        raise


@contextmanager
def _closed_early(events: Iterator[Progress | Render]) -> Generator[Iterator[Progress | Render]]:
    """Takes back what an engine still draws when nobody reads its events any more."""
    try:
        yield events
    finally:
        close: Any = getattr(events, "close", None)
        if close is not None:
            close()
