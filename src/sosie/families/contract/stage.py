"""A stage in its plan: what is common to all that draw it."""

from __future__ import annotations

from dataclasses import dataclass

from sosie.core import Plan, Stage
from sosie.core.notation import plain


@dataclass(frozen=True, eq=False)
class PlannedStage:
    """A stage to be drawn; `index` is its place in the plan."""

    stage: Stage
    plan: Plan
    index: int

    @property
    def prompt(self) -> str:
        """The stage's own text, or the plan's, in the notation of `core.notation`."""
        return self.stage.prompt or self.plan.prompt

    @property
    def words(self) -> str:
        """The same for a family that weighs no words."""
        return plain(self.prompt)

    @property
    def seed(self) -> int:
        """The stage's seed, 63 bits."""
        return self.plan.stage_seed(self.index)
