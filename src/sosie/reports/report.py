"""The report of a run: what the contact sheet and the page show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sosie.core import Plan, Score, Scorecard, Verdict
from sosie.scorers.identity import Gate


@dataclass(frozen=True)
class Row:
    """One attempt: the raw image, the delivered file's name (empty if not kept), and its evidence."""

    image: Path
    delivered: str
    plan: Plan
    scorecard: Scorecard
    verdict: Verdict
    seconds: float

    @property
    def kept(self) -> bool:
        """Whether the image was delivered."""
        return self.verdict.outcome == "keep"


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that sheet and page show: references, attempts in order, and the gate they met."""

    character: str
    references: tuple[Path, ...]
    rows: tuple[Row, ...]
    gate: Gate

    @property
    def kept(self) -> tuple[Row, ...]:
        """The delivered ones, in order."""
        return tuple(row for row in self.rows if row.kept)


def without_cohort(gate: Gate) -> str:
    """A sentence on the judges whose thresholds come from the references; empty if there is none."""
    judges = gate.by_references
    if not judges:
        return ""
    names = ", ".join(judge.encoder.name for judge in judges)
    return f"Thresholds of {names}: from {judges[0].basis}; how many strangers would pass is unknown."


def describe(score: Score) -> str:
    """A score in a few words: `sface 0.71 (at least 0.62)`."""
    if score.value is None:
        return f"{score.name} -"
    if score.threshold is None:
        return f"{score.name} {score.value:.2f}"
    bound = "at least" if score.higher_is_better else "at most"
    return f"{score.name} {score.value:.2f} ({bound} {score.threshold:.2f})"
