"""Why a decision is to be doubted: what it stands on is otherwise now, or was measured otherwise later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from sosie.knowledge.decision import Decision, Doubt, Premise
from sosie.knowledge.evidence import Evidence


def doubted(decision: Decision, now: Callable[[Premise], str], measured: Iterable[Evidence]) -> Decision:
    """The decision, doubted if there is a new reason to; one that is not accepted or doubted stays as it is.

    `now` says what a premise is now, `measured` is all that experiments showed of anything. A reason stays until
    somebody accepts the decision again, even if it has gone by itself.
    """
    if decision.status not in ("accepted", "doubted"):
        return decision
    known = {(doubt.kind, doubt.name) for doubt in decision.doubts}
    new = [doubt for doubt in _doubts(decision, now, measured) if (doubt.kind, doubt.name) not in known]
    return replace(decision, status="doubted", doubts=(*decision.doubts, *new)) if new else decision


def _doubts(decision: Decision, now: Callable[[Premise], str], measured: Iterable[Evidence]) -> Iterator[Doubt]:
    for premise in decision.premises:
        if (value := now(premise)) != premise.value:
            yield Doubt(premise.kind, premise.name, premise.value, value)
    for later in measured:
        for own in decision.evidence:
            if later.excludes(own):
                yield Doubt("experiment", later.experiment, _interval(own), _interval(later))


def _interval(evidence: Evidence) -> str:
    return f"{evidence.low:g} .. {evidence.high:g} {evidence.scale}".rstrip()
