"""Scores, scorecards and verdicts. No score is not zero: `None`, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sosie.core.errors import ConfigError

Outcome = Literal["keep", "retry", "repair", "reject"]


@dataclass(frozen=True)
class CohortRate:
    """What a threshold means: the share of a cohort of impostors that passes it.

    `fmr` is the false-match rate (0 to 1) of `false_matches` in `n`, `upper95` its one-sided
    95 % Clopper-Pearson bound. `cohort` names the population.
    """

    cohort: str
    n: int
    false_matches: int
    fmr: float
    upper95: float


@dataclass(frozen=True)
class Calibrated:
    """What stands behind the threshold of a judge of identity.

    `rate` is what it lets through alone, `joint` together with the other judges, `others` the joint rate against
    other people. `guided_by` names the encoders that guided the image: never the one that judged. `basis` says
    what set the threshold where it was no cohort: then all three rates are None.
    """

    rate: CohortRate | None = None
    joint: CohortRate | None = None
    others: CohortRate | None = None
    guided_by: tuple[str, ...] = ()
    basis: str = ""


@dataclass(frozen=True)
class Score:
    """One measured value of one image.

    `kind` is the group in which it is shown: `identity` of judges, `defect`, or another word of small letters,
    digits and underscores (`ConfigError`). `value` is None when nothing could be measured; `reason` then says why.
    `passed` is None when there is no value or no threshold: never a pass. `low` and `high` bound the value's range.
    `evidence` is what stands behind the threshold of identity.
    """

    kind: str
    name: str
    value: float | None
    threshold: float | None
    passed: bool | None
    reason: str = ""
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = False
    evidence: Calibrated | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", self.kind):
            raise ConfigError(f"score '{self.name}' is of kind {self.kind!r}; expected a word such as identity")


@dataclass(frozen=True)
class Scorecard:
    """All scores of one image."""

    scores: tuple[Score, ...]

    def of(self, kind: str) -> tuple[Score, ...]:
        """The scores of one kind, in order."""
        return tuple(score for score in self.scores if score.kind == kind)

    @property
    def alarms(self) -> tuple[Score, ...]:
        """The defects to name: those that failed, and those without a value for a reason that none of them tells."""
        defects = self.of("defect")
        told = {score.reason for score in defects if score.passed is False}
        return tuple(
            score for score in defects if score.passed is False or (score.passed is None and score.reason not in told)
        )


@dataclass(frozen=True)
class Verdict:
    """What is to be done with an image, and why not `keep`."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
