"""Drawing cells: each is one plan without a retry. One that fails is written down, and the others go on."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from sosie.core import Character, Engine, Environment, Finding, Note, Plan, Progress, Render
from sosie.core.errors import DeliveryError, EngineError, SosieError, StoreError
from sosie.core.experiment_result import Cell
from sosie.core.finding import Rule
from sosie.lab.arms import ArmRecipe, request_of
from sosie.lab.blocks import Block
from sosie.lab.endpoint import EndPoint
from sosie.lab.experiment import Experiment
from sosie.loop.attempts import first_plan, run
from sosie.loop.judge import Judge
from sosie.loop.task import Attempt, Bench, Drawn, Task

Q010 = Rule("SOS-Q010", "warning", "A cell of an experiment could not be drawn")

IN_A_ROW = 8
"""So many failures with nothing drawn between them end a command: it is the engine, not the cells."""


@dataclass(frozen=True, eq=False)
class Lane:
    """An arm that is ready to be drawn: its judge, and what draws it."""

    arm: ArmRecipe
    judge: Judge
    bench: Bench


@dataclass(frozen=True, eq=False)
class Wanted:
    """A cell to draw."""

    lane: Lane
    block: Block
    fresh: bool = False


@dataclass(frozen=True)
class NoDrawing:
    """Takes the place of an engine where only what it has drawn already is looked at. `name` is that engine's."""

    name: str

    def check(self, plan: Plan) -> list[Finding]:
        """Nothing can go wrong."""
        del plan
        return []

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """Nothing comes of it."""
        del plans
        return iter(())

    def close(self) -> None:
        """Nothing is held."""


class Drawer:
    """Draws cells of one experiment, and remembers the environments that drew them.

    `known` are failures of earlier commands by plan; they count where a cell is not drawn now.
    """

    def __init__(
        self, experiment: Experiment, who: Character, endpoint: EndPoint, known: Mapping[str, Finding]
    ) -> None:
        self._experiment = experiment
        self._who = who
        self._endpoint = endpoint
        self._known = known
        self._failed_in_a_row = 0
        self._said: set[Note] = set()
        self.environments: dict[Environment, None] = {}

    def draw(self, cells: Sequence[Wanted]) -> Generator[Progress | Note | Cell]:
        """Every cell that can be drawn, was drawn or failed, as soon as it is known; the rest is left out.

        Raises `StoreError` for a store that cannot be written, and `EngineError` when nothing at all can be drawn.
        """
        for bench in dict.fromkeys(one.lane.bench for one in cells):
            yield from self._draw([one for one in cells if one.lane.bench is bench], bench)

    def _draw(self, cells: Sequence[Wanted], bench: Bench) -> Generator[Progress | Note | Cell]:
        left = {str(index): one for index, one in enumerate(cells)}
        try:
            yield from self._run(left, bench)
        except (StoreError, DeliveryError):
            raise
        except Exception as error:
            if len(left) == 1:
                yield self._failed(left, error)
        # One of several failed, and it is not told which: each of the rest is drawn by itself.
        for key in list(left):
            alone = {key: left[key]}
            try:
                yield from self._run(alone, bench)
            except (StoreError, DeliveryError):
                raise
            except Exception as error:
                yield self._failed(alone, error)
                continue
            if alone and isinstance(bench.engine, NoDrawing):
                finding = self._known.get(self.plan(left[key]).id)
                yield from (self._cell(left[key], finding),) if finding else ()
            elif alone:
                yield self._failed(alone, EngineError(f"engine '{bench.engine.name}' gave no image"))

    def _run(self, left: dict[str, Wanted], bench: Bench) -> Generator[Progress | Note | Cell]:
        tasks = [self._task(key, one) for key, one in left.items()]
        with closing(run(tasks, bench)) as events:
            for event in events:
                if isinstance(event, Attempt):
                    self._failed_in_a_row = 0
                    self.environments[event.stored.environment] = None
                    yield self._drawn(left.pop(event.task.name), event)
                elif isinstance(event, Finding):
                    yield Note(event.message)
                elif not isinstance(event, Drawn) and event not in self._said:
                    if isinstance(event, Note):
                        self._said.add(event)
                    yield event

    def _task(self, name: str, one: Wanted) -> Task:
        arm = one.lane.arm
        request = request_of(arm, self._experiment, one.block.prompt, one.block.seed)
        return Task(name, arm.whole, self._who, request, 1, 1, one.lane.judge)

    def plan(self, one: Wanted) -> Plan:
        """The plan of a cell."""
        return first_plan(self._task("", one), one.lane.bench.assets)

    def _failed(self, left: dict[str, Wanted], error: Exception) -> Cell:
        """The one cell that is left, as failed. Raises `EngineError` after too many of them."""
        ((key, one),) = left.items()
        del left[key]
        self._failed_in_a_row += 1
        message, hint = (
            (error.message, error.hint) if isinstance(error, SosieError) else (f"{type(error).__name__}: {error}", "")
        )
        if self._failed_in_a_row >= IN_A_ROW:
            text = f"{self._failed_in_a_row} cells failed one after another, the last one with: {message}"
            raise EngineError(text, hint or "mend the engine, then: sosie experiment resume NAME")
        return self._cell(one, Q010.at(one.lane.arm.name, message[:600], hint))

    def _cell(self, one: Wanted, error: Finding) -> Cell:
        block = one.block
        return Cell(
            one.lane.arm.name, block.prompt, block.seed, one.fresh, self.plan(one).id, self._endpoint.floor, error=error
        )

    def _drawn(self, one: Wanted, attempt: Attempt) -> Cell:
        score = self._endpoint.measure(attempt.scorecard)
        stored, block = attempt.stored, one.block
        shown = {each.name: each.value for each in attempt.scorecard.scores if each.kind != "defect"}
        alarms = {each.name: each.value for each in attempt.scorecard.alarms}
        return Cell(
            arm=one.lane.arm.name,
            prompt=block.prompt,
            seed=block.seed,
            fresh=one.fresh,
            plan=attempt.plan.id,
            counted=self._endpoint.floor if score is None else score,
            engine=stored.engine,
            image=stored.sha256,
            score=score,
            kept=attempt.verdict.outcome == "keep",
            reasons=attempt.verdict.reasons,
            scores=shown | alarms,
            seconds=round(stored.seconds, 3),
        )


def without_drawing(engine: Engine) -> Engine:
    """Stands for an engine that is not to draw: what it has drawn is found by its name."""
    return NoDrawing(engine.name)
