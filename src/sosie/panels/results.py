"""The results of a panel: who voted, what they prefer, and how judges and looks agree with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sosie.panels.agreement import Agreement, Measured, agreement, most_agree, people_agree
from sosie.panels.answers import Attended, answers, attended, side_taken, sound
from sosie.panels.panel import Panel
from sosie.panels.resampling import Estimate
from sosie.panels.strengths import Strength, strengths
from sosie.panels.thresholds import Fitted, fit_difference, fit_threshold
from sosie.panels.votes import Vote
from sosie.scorers.statistics import Proportion, wilson


@dataclass(frozen=True)
class Results:
    """What may be said of a panel. `kept` people count; shares are 0 to 1.

    `thresholds` and `seen` have a line for each judge and look that has values.
    """

    panel: Panel
    people: tuple[Attended, ...]
    votes: int
    undecided: float | None
    left: Proportion
    strengths: tuple[Strength, ...]
    with_each_other: Estimate
    with_most: Estimate
    agreements: tuple[Agreement, ...]
    thresholds: tuple[Fitted, ...]
    seen: tuple[Fitted, ...]

    @property
    def kept(self) -> tuple[Attended, ...]:
        """The people whose votes count."""
        return tuple(one for one in self.people if not one.why)


def results(panel: Panel, votes: Mapping[str, Mapping[int, Vote]], measured: Sequence[Measured]) -> Results:
    """The results of these votes (`Votes.last`) beside what was measured of the panel's images."""
    votes = sound(panel, votes)
    people = tuple(attended(panel, person, own) for person, own in votes.items())
    table = answers(panel, votes, [one.person for one in people if not one.why])
    known = [one for one in measured if one.is_directed and any(value is not None for value in one.values)]
    return Results(
        panel,
        people,
        int((table.table == table.table).sum()),
        table.undecided,
        wilson(*side_taken(votes)),
        strengths(table),
        people_agree(table),
        most_agree(table),
        tuple(agreement(table, one) for one in measured if one.is_directed),
        tuple(fit_threshold(table, one) for one in known),
        tuple(fit_difference(table, one) for one in known),
    )
