"""Which image is drawn next: what is surely needed, in the order of the tasks; then what probably is.

Nothing here draws, waits or reads a clock, so that it can be simulated (`benchmarks/drawn_ahead.py`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import TYPE_CHECKING

from sosie.core import Draw, Outcome, Plan, plan

if TYPE_CHECKING:
    from sosie.loop.task import Task

SHARE = 0.1
"""Of all attempts, those that may be drawn ahead at a time, those that were in vain included."""

FEW = 2
"""So many may be in any case: no more than that share of twenty."""

LIKELY = 0.5
"""What is drawn ahead must be needed with this probability at least."""

CLOSING = ("keep", "reject")


@dataclass(eq=False)
class Step:
    """One attempt at an image of the task at place `task`; its `outcome` is None until it is judged.

    It is `sure` if it is needed whatever is still to be judged, and `in_vain` if it turned out not to be. `pixels` is
    the digest of its image, once there is one.
    """

    task: int
    plan: Plan
    sure: bool = False
    in_vain: bool = False
    pixels: str = ""
    outcome: Outcome | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Its place in the order of a serial run: task, attempt, image."""
        return self.task, self.plan.draw.attempt, self.plan.draw.index


@dataclass(eq=False)
class _Image:
    """The attempts at one image: those that are sure, then one that is due, or what was drawn ahead."""

    steps: list[Step] = field(default_factory=list[Step])
    closed: bool = False

    def sure_step(self, attempt: int) -> Step | None:
        step = self.steps[attempt] if attempt < len(self.steps) else None
        return step if step is not None and step.sure else None


class Schedule:
    """The draws of tasks. A serial run would do the same ones: one attempt an image in turn, until the budget is spent.

    What is drawn ahead does not count against a budget: what turns out to be needed would have been drawn anyway.
    """

    def __init__(self, tasks: Sequence[Task], assets: Mapping[str, str]) -> None:
        self._tasks = tuple(tasks)
        self._assets = assets
        self._images = [[_Image() for _ in range(task.n)] for task in tasks]
        self._firsts = ((place, index) for place, task in enumerate(tasks) for index in range(task.n))
        self._first = next(self._firsts, None)
        self._due: list[tuple[tuple[int, int, int], Step]] = []
        self._held: list[Step] = []
        self._waiting: dict[Step, None] = {}
        self._ahead: set[Step] = set()
        self._outcomes: dict[bool, Counter[Outcome]] = {False: Counter(), True: Counter()}
        self.needed = 0
        self.in_vain = 0

    @property
    def done(self) -> bool:
        """Whether everything that is needed was given and judged."""
        return self._first is None and not self._due and not self._held and not self._waiting

    def next(self) -> Step | None:
        """The next attempt that is surely needed; None if there is none before something else is judged."""
        while (step := self._earliest()) is not None:
            budget = self._tasks[step.task].budget
            if self._latest(step) < budget:
                self._need(step)
                return step
            if self._before(step, at_most=False) < budget:
                self._held.append(step)
            else:
                image = self._image(step)
                image.steps.remove(step)
                image.closed = True
        return None

    def guess(self) -> Step | None:
        """The attempt that is likeliest to be needed, as long as few are drawn ahead or were in vain."""
        if self.in_vain + len(self._ahead) + 1 > max(FEW, SHARE * self.needed):
            return None
        chances = [self._chance(step) for step in self._waiting]
        chance, last, outcome = max(chances, key=lambda one: one[0], default=(0.0, None, "retry"))
        if last is None or chance < LIKELY:
            return None
        step = self._follow(last, outcome)
        if self._latest(step) >= self._tasks[step.task].budget:
            return None
        self._image(step).steps.append(step)
        self._ahead.add(step)
        return step

    def judged(self, step: Step, outcome: Outcome) -> list[Step]:
        """What was decided of a sure step. Returns what is known now of what was drawn ahead: each is sure or in vain.

        What was drawn ahead of a step that is sure now goes on waiting.
        """
        step.outcome = outcome
        del self._waiting[step]
        self._outcomes[step.plan.draw.is_repair][outcome] += 1
        for held in self._held:
            heapq.heappush(self._due, (held.key, held))
        self._held.clear()
        image = self._image(step)
        ahead = image.steps[image.steps.index(step) + 1 :]
        image.closed = outcome in CLOSING
        following = None if image.closed else self._follow(step, outcome)
        if ahead and following is not None and ahead[0].plan.draw == following.plan.draw:
            self._ahead.remove(ahead[0])
            self._need(ahead[0])
            return ahead[:1]
        for drawn in ahead:
            image.steps.remove(drawn)
            self._ahead.remove(drawn)
            drawn.in_vain = True
            self.in_vain += 1
        if following is not None:
            image.steps.append(following)
            heapq.heappush(self._due, (following.key, following))
        return ahead

    def give_up(self, step: Step) -> None:
        """A step that was given will not be drawn, and nothing after it."""
        image = self._image(step)
        image.closed = True
        for one in image.steps[image.steps.index(step) :]:
            one.sure = False
            self._waiting.pop(one, None)
            self._ahead.discard(one)

    def serial(self) -> Iterator[Step | None]:
        """The sure steps in the order of a serial run; None, again and again, while the next one is not known."""
        for images in self._images:
            for attempt in count():
                went_on = False
                for image in images:
                    while (step := image.sure_step(attempt)) is None and not image.closed:
                        yield None
                    if step is not None:
                        went_on = True
                        yield step
                if not went_on:
                    break

    def _earliest(self) -> Step | None:
        """Takes what is first in a serial run, of what is due and of the images that were not begun."""
        first = self._first
        if first is not None and (not self._due or (first[0], 0, first[1]) < self._due[0][0]):
            self._first = next(self._firsts, None)
            step = self._step(first[0], Draw(first[1]))
            self._image(step).steps.append(step)
            return step
        return heapq.heappop(self._due)[1] if self._due else None

    def _need(self, step: Step) -> None:
        step.sure = True
        self._waiting[step] = None
        self.needed += 1

    def _latest(self, step: Step) -> int:
        """The place in its task that a serial run would do this step at, at the latest."""
        task, draw = self._tasks[step.task], step.plan.draw
        in_rounds = draw.attempt * task.n + draw.index
        return in_rounds if in_rounds < task.budget else self._before(step, at_most=True)

    def _before(self, step: Step, *, at_most: bool) -> int:
        """How many attempts of its task a serial run would do before this one, at most or at least."""
        attempt, index = step.plan.draw.attempt, step.plan.draw.index
        before = 0
        for place, image in enumerate(self._images[step.task]):
            own = attempt + (place < index)
            known = sum(one not in self._ahead for one in image.steps)
            before += own if at_most and not image.closed else min(own, known)
        return before

    def _chance(self, step: Step) -> tuple[float, Step, Outcome]:
        """How probably something is needed after the last attempt at a step's image, that attempt, and its outcome."""
        steps = self._image(step).steps
        chain = steps[steps.index(step) :]
        chance = 1.0
        for one, after in pairwise(chain):
            chance *= self._share(one, "repair" if after.plan.draw.is_repair else "retry")
        last = chain[-1]
        possible: list[Outcome] = ["retry", "repair"] if last.pixels else ["retry"]
        outcome = max(possible, key=lambda one: self._share(last, one))
        return chance * self._share(last, outcome), last, outcome

    def _share(self, step: Step, outcome: Outcome) -> float:
        """The share of such attempts that ended so, as if one more had been kept and one more retried."""
        seen = self._outcomes[step.plan.draw.is_repair]
        return (seen[outcome] + (outcome == "retry")) / (seen.total() + 2)

    def _follow(self, step: Step, outcome: Outcome) -> Step:
        """The repair of an image, or a new one."""
        draw = step.plan.draw
        source = step.pixels if outcome == "repair" else ""
        return self._step(step.task, Draw(draw.index, draw.attempt + 1, step.plan.id, source))

    def _step(self, place: int, draw: Draw) -> Step:
        task = self._tasks[place]
        return Step(place, plan(task.recipe, task.character, task.request, draw, self._assets))

    def _image(self, step: Step) -> _Image:
        return self._images[step.task][step.plan.draw.index]
