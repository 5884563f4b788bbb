"""A dry run: what an experiment would take, and what it could show, before anything is opened or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sosie.core import Result
from sosie.core.experiment_result import Design
from sosie.lab.arms import ArmRecipe
from sosie.lab.assemble import smallest
from sosie.lab.endpoint import filled
from sosie.lab.experiment import Experiment
from sosie.lab.questions import questions
from sosie.store.record import Cost


@dataclass(frozen=True)
class Forecast(Result):
    """What an experiment would take at most: a race draws less. What is in the store already is not drawn again.

    `hours` and `money` are None where no image of the recipe was drawn by the engine yet; `basis` says what they rest
    on. `smallest` is the smallest difference that 80 % of such experiments show; None: none below the clip.
    `bytes` are the images' on disk.
    """

    name: str
    arms: int
    blocks: int
    contrasts: int
    cells: int
    fresh: int
    hours: float | None
    money: float | None
    bytes: int
    basis: str
    design: Design
    smallest: float | None
    longer: float | None

    @property
    def images(self) -> int:
        """All images, with those that measure the winner again."""
        return self.cells + self.fresh


BYTES_A_PIXEL = 1.6
"""Of a PNG of a photographic picture, where none of the recipe was stored yet."""


def forecast(experiment: Experiment, arms: Sequence[ArmRecipe], cost: Cost | None, price: float) -> Forecast:
    """The dry run of these arms. `price` is of an hour; `cost` is what images of the recipe took so far.

    Raises `RuleError` (SOS-Q005) for a design that does not fit the arms.
    """
    asked = questions(experiment.design, arms)
    design = filled(experiment.design, len(experiment.prompts), len(experiment.seeds))
    cells = len(arms) * experiment.blocks
    fresh = 0 if design.unit == "training run" else 2 * len(experiment.prompts) * (design.confirm or 0)
    pixels = sum(arm.whole.width * arm.whole.height for arm in arms if arm.recipe) / max(1, len(arms))
    a_side = min(min(len(one.arms), len(one.against)) for one in asked)
    seconds = cost.seconds * (cells + fresh) if cost else None
    return Forecast(
        experiment.name,
        len(arms),
        experiment.blocks,
        len(asked),
        cells,
        fresh,
        None if seconds is None else seconds / 3600,
        0.0 if not price else None if seconds is None else seconds / 3600 * price,
        int((cost.bytes if cost else BYTES_A_PIXEL * pixels) * (cells + fresh)),
        f"median of {cost.n} images of recipe '{experiment.recipe}' by {cost.engine}"
        if cost
        else f"no image of recipe '{experiment.recipe}' was drawn here yet",
        design,
        smallest(design, experiment.blocks, len(asked), a_side),
        smallest(design, 4 * experiment.blocks, len(asked), a_side),
    )
