"""What a run delivered, beside the recipe's earlier images: told where a picture's colours are unlike theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sosie.core import Finding, Scorecard
from sosie.core.finding import Rule
from sosie.loop.task import Attempt
from sosie.scorers.looks.drift import Drift, drifts
from sosie.scorers.looks.look import KIND
from sosie.store.record import Record

J011 = Rule("SOS-J011", "info", "A picture's colours are unlike the recipe's earlier images")

HINT = "look at it beside them; a limit of acceptance.looks rejects such pictures (docs/looks.md)"

_MORE = {"saturation": "is more colourful", "green_red": "leans to red", "blue_yellow": "leans to yellow"}
_LESS = {"saturation": "is paler", "green_red": "leans to green", "blue_yellow": "leans to blue"}


def check_colours(record: Record, attempts: Sequence[Attempt]) -> Iterator[Finding]:
    """SOS-J011 for each kept picture that is unlike the images kept of its recipe and character before this run."""
    kept = [attempt for attempt in attempts if attempt.verdict.outcome == "keep" and not attempt.resumed]
    if not kept:
        return
    own = min(attempt.stored.id for attempt in kept)
    task = kept[0].task
    earlier = record.measured(KIND, task.character.name, task.recipe.name, before=own)
    for attempt in kept:
        if found := drifts(_values(attempt.scorecard), earlier):
            name = (attempt.delivered or attempt.stored.image).name
            yield J011.at(name, "; ".join(map(_told, found)), HINT)


def _values(card: Scorecard) -> dict[str, float]:
    return {score.name: score.value for score in card.of(KIND) if score.value is not None}


def _told(one: Drift) -> str:
    how = (_MORE if one.deviations > 0 else _LESS)[one.name]
    return (
        f"it {how} than the {one.n} earlier images kept of this recipe: {one.name} {one.value:.1f}, the median of "
        f"theirs is {one.middle:.1f} ({abs(one.deviations):.1f} of their deviations away)"
    )
