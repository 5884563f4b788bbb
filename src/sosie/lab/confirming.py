"""Whether a winner is confirmed: on seeds that nobody chose, counted together with every earlier try of the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sosie.core import Recipe
from sosie.core.experiment_result import Cell, Contrast, Design, ExperimentResult
from sosie.core.schema import digest
from sosie.lab.endpoint import LEAST_FRESH
from sosie.lab.questions import Question
from sosie.lab.race import rules_of
from sosie.statistics.answers import answer
from sosie.statistics.power import looks

Drawn = tuple[str, str]
"""A cell: its plan and its engine."""

Pairs = dict[tuple[Drawn, Drawn], float]
"""The difference of each fresh block, by the cells of the winner and of the baseline, in the order of drawing."""


@dataclass(frozen=True)
class Confirming:
    """What is measured again: `arm` against `against`, of a `character`, `recipe` and `scale`.

    `key` is of what is compared, not of what it is called: recipes of both arms, character and end point.
    """

    key: str
    arm: str
    against: str
    character: str
    recipe: str
    scale: str

    def is_tried_by(self, result: ExperimentResult) -> bool:
        """Whether a result measured the same again: the same recipes, or arms of the same names."""
        won = result.winner
        if won is None or not any(cell.fresh for cell in result.cells):
            return False
        if (result.character, result.scale) != (self.character, self.scale):
            return False
        named = (result.recipe, won.arm, result.design.baseline) == (self.recipe, self.arm, self.against)
        return named or won.key == self.key


@dataclass(frozen=True)
class Tried:
    """An earlier experiment that measured the same again, its clip and its fresh blocks."""

    experiment: str
    clip: float
    pairs: Pairs


def key_of(own: Recipe, against: Recipe, character: str, endpoint: str) -> str:
    """From what the fresh seeds come: SHA-256 of both recipes without their name, the character and the end point."""
    return digest([replace(own, name=""), replace(against, name=""), character, endpoint])


def tries(what: Confirming, earlier: Iterable[ExperimentResult], experiment: str) -> tuple[Tried, ...]:
    """The earlier confirmations of the same by other experiments than this one, oldest first."""
    found = [one for one in earlier if one.id != experiment and what.is_tried_by(one)]
    return tuple(_tried(one) for one in sorted(found, key=lambda one: one.started))


def pairs_of(cells: Iterable[Cell], arm: str, against: str) -> Pairs:
    """The differences of the fresh blocks that both arms have."""
    known = {(cell.arm, cell.prompt, cell.seed): cell for cell in cells if cell.fresh}
    found: Pairs = {}
    for (name, prompt, seed), own in known.items():
        other = known.get((against, prompt, seed))
        if name == arm and other is not None:
            found[(own.plan, own.engine), (other.plan, other.engine)] = own.counted - other.counted
    return found


def confirmed(design: Design, question: Question, own: Pairs, before: Sequence[Tried]) -> Contrast:
    """The winner's question asked of all fresh blocks, those of earlier tries first, at the whole of alpha.

    Always by bets, which hold however often a try is made longer, and with the clip of the first try.
    """
    pooled: Pairs = {}
    for one in before:
        pooled.update(one.pairs)
    pooled.update(own)
    clip = before[0].clip if before else design.clip
    rules = rules_of(replace(design, clip=clip, stopping="anytime"), 1)
    differences: NDArray[np.float64] = np.array(list(pooled.values()), np.float64)
    n = len(differences)
    found = answer(differences, rules, looks(n, design.every))
    few = n < LEAST_FRESH
    verdict = "undecided" if few else found.verdict
    mean, low, high = (float(one) if n else None for one in (found.bound.mean, found.bound.low, found.bound.high))
    return Contrast(
        question.name,
        question.arms,
        question.against,
        n,
        mean,
        low,
        high,
        1 - design.alpha,
        found.p if n else None,
        verdict,
        found.clipped,
        None if verdict == "undecided" else n,
        f"{n} fresh blocks are fewer than {LEAST_FRESH}" if few else "",
    )


def _tried(result: ExperimentResult) -> Tried:
    arm = result.winner.arm if result.winner else ""
    clip = result.design.clip
    if clip is None:
        raise ValueError(f"the design of {result.id} has no clip")
    return Tried(result.id, clip, pairs_of(result.cells, arm, result.design.baseline))
