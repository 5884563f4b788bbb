"""The course of a trial: pass after pass of blocks, a look where one is due, and the winner once more."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field

from sosie.core import Event, Result
from sosie.core.experiment_result import Cell, Contrast, ExperimentResult, Winner
from sosie.lab.blocks import Block, fresh_seeds, passes, passes_between_looks
from sosie.lab.confirming import Confirming, confirmed, key_of, pairs_of, tries
from sosie.lab.drawing import Drawer, Lane, Wanted
from sosie.lab.questions import Question
from sosie.lab.race import Race, winner
from sosie.lab.sheet import Sheet
from sosie.lab.trial import Trial


@dataclass(frozen=True)
class CellDone(Result):
    """A cell is known: `number` of at most `total`."""

    cell: Cell
    number: int
    total: int


@dataclass(frozen=True)
class Looked(Result):
    """A look after so many blocks, what it decided and which arms it dropped, by their questions' names."""

    blocks: int
    decided: tuple[Contrast, ...]
    dropped: tuple[str, ...]
    open: int


@dataclass(eq=False)
class Course:
    """What a trial knows so far. `is_whole`: no block is missing that the design still needs.

    `earlier` gives what other experiments here found: their confirmations of the same winner count.
    """

    trial: Trial
    drawer: Drawer
    earlier: Callable[[], Iterable[ExperimentResult]] = tuple
    sheet: Sheet = field(default_factory=Sheet)
    is_whole: bool = False
    fresh: tuple[int, ...] = ()
    winner: Winner | None = None

    def __post_init__(self) -> None:
        self.race = Race(self.trial.design, self.trial.drawn)
        experiment = self.trial.experiment
        self._passes = passes(len(experiment.prompts), experiment.seeds, self.trial.digest)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks of the experiment's own seeds, in the order in which they are drawn."""
        return tuple(block for one in self._passes for block in one)

    @property
    def total(self) -> int:
        """How many cells there are at most, without the winner's fresh ones."""
        return len(self.trial.lanes) * len(self.blocks)

    def run(self) -> Generator[Event]:
        """Draws what is missing, look by look; then the winner on fresh seeds.

        Ends without `is_whole` where cells are not there and cannot be drawn.
        """
        between = passes_between_looks(len(self.trial.experiment.prompts), self.trial.design.every)
        seen: list[Block] = []
        for index, blocks in enumerate(self._passes, start=1):
            lanes = [lane for name, lane in self.trial.lanes.items() if self.race.needs(name)]
            if not lanes:
                break
            if not (yield from self._draw([Wanted(lane, block) for block in blocks for lane in lanes])):
                return
            seen += blocks
            if index % between == 0 or index == len(self._passes):
                yield from self._look(seen)
        self.is_whole = yield from self._measure_winner()

    def contrasts(self) -> tuple[Contrast, ...]:
        """What is known of every question that was drawn."""
        return self.race.contrasts(self.sheet, self.blocks)

    def _draw(self, cells: Sequence[Wanted]) -> Generator[Event, None, bool]:
        """Whether all of these cells are known in the end."""
        for event in self.drawer.draw(cells):
            if isinstance(event, Cell):
                self.sheet.add(event)
                number = len(self.sheet.cells)
                yield CellDone(event, number, max(self.total, number))
            else:
                yield event
        return all(self.sheet.has(one.lane.arm.name, one.block) for one in cells)

    def _look(self, seen: Sequence[Block]) -> Generator[Event]:
        closed = {one.name for one in self.race.look(self.sheet, seen)}
        if self.trial.design.stopping == "none":
            return
        found = tuple(one for one in self.race.contrasts(self.sheet, seen) if one.name in closed)
        decided = tuple(one for one in found if one.name in self.race.decided)
        dropped = tuple(one.name for one in found if one.name in self.race.dropped)
        yield Looked(len(seen), decided, dropped, len(self.race.open))

    def _measure_winner(self) -> Generator[Event, None, bool]:
        """Draws winner and baseline on fresh seeds; whether that is done, or there is nothing to do."""
        trial, design = self.trial, self.trial.design
        if design.unit == "training run":
            return True
        won = winner({arm.name: arm.levels for arm in trial.arms}, self.contrasts(), trial.drawn, design.baseline)
        if not won or won not in trial.lanes:
            return True
        pair: list[Lane] = [trial.lanes[won], trial.lanes[design.baseline]]
        key = key_of(pair[0].arm.whole, pair[1].arm.whole, trial.who.name, trial.endpoint.name)
        self.winner = Winner(won, None, False, key)
        self.fresh = fresh_seeds(trial.experiment.seeds, design.confirm or 0, key)
        if not self.fresh:
            return True
        blocks = [block for one in passes(len(trial.experiment.prompts), self.fresh, key) for block in one]
        if not (yield from self._draw([Wanted(lane, block, True) for block in blocks for lane in pair])):
            return False
        self.winner = self._confirmed(won, key)
        return True

    def _confirmed(self, won: str, key: str) -> Winner:
        """The winner with what all fresh blocks say of it, those of earlier experiments too."""
        trial, base = self.trial, self.trial.design.baseline
        what = Confirming(key, won, base, trial.who.name, trial.experiment.recipe, trial.endpoint.scale)
        before = tries(what, self.earlier(), trial.id)
        question = Question(f"{won} against {base}", (won,), (base,))
        fresh = confirmed(trial.design, question, pairs_of(self.sheet.cells, won, base), before)
        return Winner(won, fresh, fresh.verdict == "better", key, tuple(one.experiment for one in before))
