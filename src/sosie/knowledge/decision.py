"""A Decision: a choice with what it stands on, so that it can be doubted when that changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sosie.knowledge.days import not_days
from sosie.knowledge.evidence import Evidence

Status = Literal["proposed", "accepted", "doubted", "superseded"]

Kind = Literal["model", "setting", "calibration", "judge", "result"]


@dataclass(frozen=True)
class Premise:
    """Something that was so when a decision was made; empty: there was none.

    A `model` has the digest of its file, a `setting` (`RECIPE:stages.generate.sampler.cfg`) the value as JSON, a
    `calibration` (`RECIPE`) the digest of the character's cohort by which the judges' thresholds were set, a
    `judge` (its encoder's name) the digest of its weights, the `result` of an experiment (its id) its digest.
    """

    kind: Kind
    name: str
    value: str


@dataclass(frozen=True)
class Doubt:
    """Why a decision is doubted: `was` is what it stands on, `now` what is so instead.

    Of an `experiment`, `name` is the later one, and both are intervals.
    """

    kind: Literal["model", "setting", "calibration", "judge", "result", "experiment"]
    name: str
    was: str
    now: str


@dataclass(frozen=True)
class Decision:
    """A choice. `date` is the day, ISO 8601; `supersedes` and `superseded_by` are ids of others ("D3").

    An accepted one has evidence, or the reason why there is none. `would_change` says what would change our mind.
    """

    title: str
    date: str
    character: str = ""
    status: Status = "proposed"
    why: str = ""
    considered: tuple[str, ...] = ()
    would_change: str = ""
    evidence: tuple[Evidence, ...] = ()
    without_evidence: str = ""
    premises: tuple[Premise, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    supersedes: str = ""
    superseded_by: str = ""

    def conflicts(self) -> Iterator[str]:
        """As `core.ranges.Consistent`."""
        return not_days(date=self.date)
