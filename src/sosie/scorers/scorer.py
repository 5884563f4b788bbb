"""What every scorer keeps: what it is called, what it needs, and the scores that it makes of one image."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sosie.core.score import Score
from sosie.scorers.sample import Sample


@dataclass(frozen=True)
class Scale:
    """What one score measures.

    An image fails when its value is on the wrong side of `threshold`: at or above it, or, where
    `higher_is_better`, below it; without a threshold it neither passes nor fails. `low` and `high` bound the
    value, in `unit`. `kind` is the group in which the score is shown.
    """

    name: str
    threshold: float | None
    unit: str
    low: float
    high: float
    higher_is_better: bool = False
    kind: str = "defect"

    def score(self, value: float, reason: str = "") -> Score:
        """The Score of a measured `value`; `reason` says what is wrong and is dropped if it passes."""
        if self.threshold is None:
            return self._score(value, None, reason)
        passed = value >= self.threshold if self.higher_is_better else value < self.threshold
        return self._score(value, passed, "" if passed else reason)

    def unmeasured(self, why: str) -> Score:
        """The Score when nothing could be measured: neither passed nor failed, and why."""
        return self._score(None, None, why)

    def _score(self, value: float | None, passed: bool | None, reason: str) -> Score:
        return Score(
            kind=self.kind,
            name=self.name,
            value=value,
            threshold=self.threshold,
            passed=passed,
            reason=reason,
            unit=self.unit,
            low=self.low,
            high=self.high,
            higher_is_better=self.higher_is_better,
        )


class Scorer(Protocol):
    """What measures images. Each is one module; other packages bring theirs in the entry point group `sosie.scorers`.

    Where a model or a package is missing its scores have no value, and the reason: that is no pass.
    """

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The packages without which it gives no value, by the names that they are imported by."""
        ...

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What it measures, each under another name."""
        ...

    def score(self, sample: Sample, /) -> list[Score]:
        """One score for each of `scales`, in their order."""
        ...


@dataclass(frozen=True)
class Checks:
    """A scorer that is a function."""

    name: str
    needs: tuple[str, ...]
    scales: tuple[Scale, ...]
    score: Callable[[Sample], list[Score]]


def measure(scorer: Scorer, sample: Sample) -> list[Score]:
    """The scores of an image; no values, and why, where a package that the scorer needs is not installed."""
    why = why_not(scorer)
    try:
        if not why:
            return scorer.score(sample)
    except ImportError as error:
        why = f"{error.name or error} is not installed"
    return [scale.unmeasured(why) for scale in scorer.scales]


def why_not(scorer: Scorer) -> str:
    """Which packages that a scorer needs are not installed; empty if all are."""
    missing = [name for name in scorer.needs if not _is_installed(name)]
    names = " and ".join(missing)
    if len(missing) > 1:
        return f"{names} are not installed"
    return f"{names} is not installed" if missing else ""


def _is_installed(name: str) -> bool:
    return sys.modules.get(name) is not None or importlib.util.find_spec(name) is not None
