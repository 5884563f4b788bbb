"""A stage that somebody watches."""

from __future__ import annotations

from dataclasses import replace

from sosie.core.sight import Look, Sight
from sosie.families.contract.draws import StageInput


def watched(given: StageInput) -> tuple[StageInput, list[Sight]]:
    """The stage, looked at after every step, and what was seen."""
    seen: list[Sight] = []

    def see(_done: int, _steps: int, look: Look) -> None:
        sight = look()
        assert sight is not None
        seen.append(sight)

    return replace(given, on_sight=see), seen
