"""A stage that is run again in the next memory mode where the GPU's memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import EngineError
from sosie.families.contract.draws import StageInput, StageOutput

MAX_TRIES = 6


class HasModes(Protocol):
    """What holds a family's weights in one memory mode after the other."""

    def findings(self) -> tuple[Finding, ...]:
        """How the memory is used, once a change of it."""
        ...

    def fall_back(self, stage: Stage, plan: Plan, why: str) -> None:
        """Frees everything and takes the next memory mode; `EngineError` if there is none."""
        ...


def run_in_modes(given: StageInput, work: Callable[[StageInput], StageOutput], held: HasModes) -> StageOutput:
    """What `work` makes of a stage, with what is to be said of the memory.

    Raises `BadModelError` if a part cannot be loaded, `EngineError` if it fails while it
    renders or no mode is left.
    """
    from torch import OutOfMemoryError

    plan = given.plan.id[:12]
    for _ in range(MAX_TRIES):
        try:
            output = work(given)
        except OutOfMemoryError as error:
            held.fall_back(given.stage, given.plan, str(error))
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineError(f"plan {plan} failed in stage '{given.stage.kind}': {error}") from error
        else:
            return StageOutput(output.image, (*held.findings(), *output.findings), output.measures)
    raise EngineError(f"plan {plan} does not fit the memory in any mode")
