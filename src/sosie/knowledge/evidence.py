"""What an experiment showed of one contrast, as a decision holds it: enough to doubt it without the result's file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sosie.core.errors import UsageError, nearest
from sosie.core.experiment_result import Contrast, ExperimentResult, Verdict


@dataclass(frozen=True)
class Evidence:
    """One contrast of an experiment.

    `experiment` and `digest` are those of the result, `finished` is when it was (ISO 8601, UTC). `estimate` with its
    interval `low` to `high` is the difference of the end point, in the `scale` of the experiment. `confirmed`: the
    winner was measured again on seeds that had not chosen it.
    """

    experiment: str
    digest: str
    contrast: str
    verdict: Verdict
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    scale: str = ""
    blocks: int = 0
    confirmed: bool = False
    character: str = ""
    recipe: str = ""
    finished: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether it shows something: a difference, or that there is none beyond the margin."""
        return self.verdict != "undecided"

    def excludes(self, earlier: Evidence) -> bool:
        """Whether this measured the same, later, and the two intervals have no value in common."""
        same = _question(self) == _question(earlier) and self.experiment != earlier.experiment
        if not same or self.finished < earlier.finished:
            return False
        if self.low is None or self.high is None or earlier.low is None or earlier.high is None:
            return False
        return self.high < earlier.low or self.low > earlier.high


def evidence_of(result: ExperimentResult, contrast: str = "") -> Evidence:
    """What a result says of that contrast; by default of the one that its winner won, or of its only one.

    By axes, a winner that is otherwise on several of them was measured again against the baseline as a whole: that
    contrast may be named too, and no axis by itself is confirmed by it. Raises `UsageError` for one that is not there,
    and where it is not clear which is meant.
    """
    contrasts = _contrasts(result)
    names = [one.name for one in contrasts]
    if contrast and contrast not in names:
        raise UsageError(f"experiment '{result.id}' has no contrast '{contrast[:80]}'{nearest(contrast, names)}")
    winner = result.winner.arm if result.winner else None
    won = [one for one in contrasts if winner in one.arms and one.verdict == "better"]
    whole = [one for one in won if one.arms == (winner,)]
    meant = [one for one in contrasts if one.name == contrast] or whole or won or list(contrasts)
    if len(meant) != 1:
        known = nearest("", names) if names else ": it compared nothing"
        raise UsageError(f"experiment '{result.id}' has {len(names)} contrasts{known}", "add --contrast NAME")
    return _evidence(result, meant[0])


def all_evidence(result: ExperimentResult) -> Iterator[Evidence]:
    """What a result says of each of its contrasts."""
    return (_evidence(result, one) for one in _contrasts(result))


def _contrasts(result: ExperimentResult) -> tuple[Contrast, ...]:
    """Those that were asked, and that of the winner as a whole, where it was none of them."""
    fresh = result.winner.fresh if result.winner else None
    known = {one.name for one in result.contrasts}
    return (*result.contrasts, fresh) if fresh is not None and fresh.name not in known else result.contrasts


def _is_confirmed(result: ExperimentResult, one: Contrast) -> bool:
    """Whether fresh seeds confirmed this contrast: it was the one, or the winner differs by its axis alone."""
    winner = result.winner
    if winner is None or not winner.is_confirmed or winner.arm not in one.arms:
        return False
    if one.arms == (winner.arm,):
        return True
    own, base = result.arm(winner.arm).levels, result.arm(result.design.baseline).levels
    return sum(level != base.get(axis) for axis, level in own.items()) == 1


def _evidence(result: ExperimentResult, one: Contrast) -> Evidence:
    return Evidence(
        result.id,
        result.digest,
        one.name,
        one.verdict,
        one.estimate,
        one.low,
        one.high,
        result.scale,
        one.n,
        _is_confirmed(result, one),
        result.character,
        result.recipe,
        result.finished,
    )


def _question(evidence: Evidence) -> tuple[str, str, str, str]:
    return evidence.contrast, evidence.scale, evidence.character, evidence.recipe


def interval_text(evidence: Evidence) -> str:
    """The figure with its interval and what it rests on, in words."""
    if evidence.estimate is None or evidence.low is None or evidence.high is None:
        return f"no figure, {evidence.blocks} blocks"
    interval = f"{evidence.estimate:+.3g} ({evidence.low:+.3g} to {evidence.high:+.3g})"
    return f"{interval} {evidence.scale}".rstrip() + f", {evidence.blocks} blocks"
