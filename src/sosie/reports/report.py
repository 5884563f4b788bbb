"""The report of a run: what the contact sheet and the page show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sosie.core import CohortRate, Score
from sosie.scorers.identity import Gate
from sosie.scorers.statistics import wilson
from sosie.store.record import StoredAttempt


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that sheet and page show of a run: references, its attempts in order, and the gate they met.

    `asked` tells runs apart that asked for other things; `out` is the folder of the files that were delivered.
    """

    asked: str
    out: Path
    character: str
    references: tuple[Path, ...]
    rows: tuple[StoredAttempt, ...]
    gate: Gate

    @cached_property
    def kept(self) -> tuple[StoredAttempt, ...]:
        """The delivered ones, in order."""
        return tuple(row for row in self.rows if row.kept)

    @cached_property
    def rejected(self) -> tuple[StoredAttempt, ...]:
        """The others, in order."""
        return tuple(row for row in self.rows if not row.kept)

    def name(self, row: StoredAttempt) -> str:
        """The name of the file (or files) in the folder; empty if nothing was delivered there."""
        return ", ".join(one.path.name for one in row.deliveries if one.path.parent == self.out.absolute())

    @property
    def lead(self) -> str:
        """The shares that were kept and that pass by chance, in words."""
        share = wilson(len(self.kept), len(self.rows))
        text = (
            f"{share.k} of {share.n} images kept: {100 * share.rate:.0f} % "
            f"(95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)."
        )
        if self.gate.joint is not None:
            text += f" An image is kept if every judge passes it and no defect is found. {_rate(self.gate.joint)}"
        if self.gate.others is not None:
            text += f" Of other people: {_rate(self.gate.others)}"
        if sentence := without_cohort(self.gate):
            text += f" {sentence}"
        if self.gate.guided_by:
            text += f" The images were guided by {', '.join(self.gate.guided_by)}, which does not judge."
        return text


def without_cohort(gate: Gate) -> str:
    """A sentence on the judges whose thresholds come from the references; empty if there is none."""
    judges = gate.unrated
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


def _rate(rate: CohortRate) -> str:
    return (
        f"The thresholds let {rate.false_matches} of {rate.n} impostors of the cohort '{rate.cohort}' pass "
        f"(false-match rate {100 * rate.fmr:.1f} %, 95 % upper bound {100 * rate.upper95:.1f} %)."
    )
