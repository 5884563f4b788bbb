"""The line: where an engine's plans come from while it draws, and where its images go.

`stages` does the work on them. The line is the side of whoever reads the events, in whose thread the engine draws.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Self

from sosie.core import Note, Plan, Render
from sosie.core.errors import EngineError
from sosie.core.feed import LONG, Feed
from sosie.core.finding import Rule
from sosie.loop.desk import Desk, News
from sosie.loop.stages import Piece, Stages
from sosie.loop.task import Bench, Task

E037 = Rule("SOS-E037", "info", "Images were drawn ahead and not needed")


class Line(Feed):
    """The plans of tasks, as long as something is to be drawn. Leaving its block stores what was drawn.

    Everything is called by the thread that reads the events.
    """

    def __init__(self, tasks: Sequence[Task], bench: Bench) -> None:
        self._tasks, self._bench = tasks, bench
        self._desk = Desk(most=bench.room.places + 2)
        self._prompts: set[str] = set()
        self._is_cut = False
        self._stages = Stages(tasks, bench, self._desk)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        desk = self._desk
        if kind is not None and not desk.settled:
            self._stages.hurry()
            desk.wait(lambda: desk.settled)
        self._stages.close()

    def __iter__(self) -> Iterator[Plan]:
        """Every plan in turn, as the last one is drawn.

        It ends early for an engine that wants further plans before it draws those that it has, when there can be none
        until it does: such an engine is run again for what follows.
        """
        while not self.ended:
            if (plan := self.take(LONG)) is not None:
                yield plan
            elif self._desk.out and self._desk.is_still and not self._desk.ready:
                self._is_cut = True
                return

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be drawn."""
        return self._desk.ended

    def take(self, wait: float = 0.0) -> Plan | None:
        """The next plan that is not in the store."""
        desk = self._desk
        with desk.change:
            if not self._is_ready():
                desk.asked += 1
                ticket, desk.is_idle = desk.asked, wait > 0
                self._stages.say(partial(self._stages.answer, ticket))
                desk.wait(lambda: self._is_ready() or desk.answered >= ticket)
                desk.change.wait_for(self._is_ready, wait)
                desk.is_idle = False
            if desk.ended or not desk.ready:
                return None
            step = desk.ready.popleft()
            desk.out[step.plan.id] = (step, time.monotonic())
        self._stages.say(self._stages.look)
        self._bench.room.open(self._tasks[step.task].judge)
        if step.plan.prompt not in self._prompts:
            self._prompts.add(step.plan.prompt)
            desk.tell(Note(f"prompt: {step.plan.prompt}"))
        return step.plan

    def add(self, render: Render) -> Generator[News]:
        """Has a render judged and delivered; what is news until there is room for another one."""
        desk = self._desk
        taken = desk.out.pop(render.plan.id, None)
        if taken is None:
            raise EngineError(f"engine '{render.engine}' drew plan {render.plan.id[:12]}, which it was not asked for")
        step, since = taken
        now = time.monotonic()
        with desk.change:
            desk.in_flight += 1
        self._stages.say(partial(self._stages.add, Piece(step, now, now - since, render), render))
        return desk.told_until(lambda: desk.in_flight < desk.most)

    def news(self) -> Generator[News]:
        """What is news now."""
        return self._desk.told()

    def until_asked(self) -> Generator[News]:
        """What is news until something is to be drawn, or nothing is."""
        return self._desk.told_until(self._is_ready)

    def give_up(self) -> None:
        """The engine has ended without having drawn what it was given; whose plans were cut short is run again."""
        if self._is_cut and not self._desk.out:
            self._is_cut = False
            return
        self._desk.asked += 1
        ticket = self._desk.asked
        self._stages.say(partial(self._stages.give_up, ticket))
        self._desk.wait(lambda: self._desk.answered >= ticket or self._desk.ended)

    def stop(self) -> None:
        """Nothing more is to be drawn; what was drawn goes its way."""
        self._stages.say(self._stages.stop)
        self._desk.wait(lambda: self._desk.ended)

    def rest(self) -> Generator[News]:
        """What is news until nothing is on its way any more. Raises what went wrong."""
        yield from self._desk.told_until(lambda: self._desk.settled)
        if self._desk.error is not None:
            raise self._desk.error
        in_vain = self._stages.in_vain
        if in_vain:
            broken_off = len(self._desk.out)
            kept = f"{in_vain - broken_off} are in the store" + (f", {broken_off} broken off" if broken_off else "")
            what = f"{in_vain} of {self._stages.drawn} attempts were drawn ahead and not needed ({kept})"
            yield E037.at("generate", what)

    def _is_ready(self) -> bool:
        return bool(self._desk.ready) or self._desk.ended
