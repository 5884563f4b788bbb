"""What one defect check measures, and how a measurement becomes a Score."""

from __future__ import annotations

from dataclasses import dataclass

from sosie.core.score import Score


@dataclass(frozen=True)
class Check:
    """The scale of one defect check.

    An image fails when its value is on the wrong side of `threshold`: at or above it, or, where
    `higher_is_better`, below it. `low` and `high` bound the value, in `unit`.
    """

    name: str
    threshold: float
    unit: str
    low: float
    high: float
    higher_is_better: bool = False

    def score(self, value: float, reason: str) -> Score:
        """The Score of a measured `value`; `reason` says what is wrong and is kept only if it fails."""
        passed = value >= self.threshold if self.higher_is_better else value < self.threshold
        return self._score(value, passed, "" if passed else reason)

    def unmeasured(self, why: str) -> Score:
        """The Score when nothing could be measured: neither passed nor failed, and why."""
        return self._score(None, None, why)

    def _score(self, value: float | None, passed: bool | None, reason: str) -> Score:
        return Score(
            kind="defect",
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
