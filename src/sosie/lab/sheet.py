"""The score sheet of an experiment: its cells by arm and block, and the differences that questions are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sosie.core.experiment_result import Cell
from sosie.lab.blocks import Block
from sosie.lab.questions import Question


class Sheet:
    """What is known so far. A cell that was drawn takes the place of one that failed before."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, Block], Cell] = {}

    def add(self, cell: Cell) -> None:
        """Writes a cell down."""
        self._cells[cell.arm, Block(cell.prompt, cell.seed)] = cell

    def has(self, arm: str, block: Block) -> bool:
        """Whether the arm's cell of a block is known, drawn or failed."""
        return (arm, block) in self._cells

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All of them, in the order in which they came."""
        return tuple(self._cells.values())

    def of(self, arm: str) -> tuple[Cell, ...]:
        """An arm's cells of the experiment's own seeds."""
        return tuple(cell for cell in self._cells.values() if cell.arm == arm and not cell.fresh)

    def differences(self, question: Question, blocks: Sequence[Block]) -> NDArray[np.float64]:
        """The question's difference in each of the first blocks that all of its arms have, [n]."""
        found: list[float] = []
        for block in blocks:
            own, other = self._mean(question.arms, block), self._mean(question.against, block)
            if own is None or other is None:
                break
            found.append(own - other)
        return np.array(found, np.float64)

    def _mean(self, arms: Iterable[str], block: Block) -> float | None:
        cells = [self._cells.get((arm, block)) for arm in arms]
        values = [cell.counted for cell in cells if cell is not None]
        return sum(values) / len(values) if values and len(values) == len(cells) else None
