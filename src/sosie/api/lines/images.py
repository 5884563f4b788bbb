"""The JSON of images: their scores and verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sosie.api.lines.findings import JSON, Writers
from sosie.core import Calibrated

if TYPE_CHECKING:
    from sosie.api.generation import Delivered
    from sosie.api.scoring import Judged
    from sosie.core import CohortRate, Plan, Score, Scorecard, Verdict


def _delivered(item: Delivered) -> JSON:
    attempt = item.attempt
    plan = attempt.plan
    return {
        **_image(attempt.scorecard, attempt.verdict, str(item.image)),
        "plan": plan.id,
        "parent": plan.draw.parent or None,
        "seed": plan.seed,
        "attempt": plan.draw.attempt,
        "seconds": round(attempt.stored.seconds, 3),
        "path": _path(plan),
        "prompt": plan.prompt,
        "measures": attempt.stored.notes.measures,
    }


def _path(plan: Plan) -> str:
    """How the image came about: drawn, repaired from its parent's, or worked on from a given one."""
    return "repair" if plan.draw.is_repair else "given" if plan.source else "generate"


def _judged(item: Judged) -> JSON:
    unknown = dict.fromkeys(("plan", "parent", "seed", "attempt", "seconds"))
    return {**_image(item.scorecard, item.verdict, str(item.image)), **unknown}


def _image(scorecard: Scorecard, verdict: Verdict, image: str) -> JSON:
    return {
        "image": image,
        "verdict": verdict.outcome,
        "reasons": list(verdict.reasons),
        "scores": {
            "identity": [_identity(score) for score in scorecard.of("identity")],
            "defects": [_measured(score) for score in scorecard.of("defect")],
            "looks": [{**_measured(score), "unit": score.unit} for score in scorecard.of("look")],
        },
    }


def _identity(score: Score) -> JSON:
    evidence = score.evidence or Calibrated()
    rate = evidence.rate
    return {
        "judge": score.name,
        "value": score.value,
        "higher_is_better": score.higher_is_better if score.unit else None,
        "threshold": score.threshold,
        "fmr": rate.fmr if rate else None,
        "fmr_upper95": rate.upper95 if rate else None,
        "n": rate.n if rate else None,
        "cohort": rate.cohort if rate else None,
        "pass": score.passed,
        "reason": score.reason,
        "joint": _rate(evidence.joint),
        "others": _rate(evidence.others),
        "guided_by": list(evidence.guided_by),
        "threshold_from": evidence.basis or (rate.cohort if rate else None),
    }


def _rate(rate: CohortRate | None) -> JSON | None:
    if rate is None:
        return None
    return {"fmr": rate.fmr, "fmr_upper95": rate.upper95, "n": rate.n, "cohort": rate.cohort}


def _measured(score: Score) -> JSON:
    return {
        "name": score.name,
        "value": score.value,
        "threshold": score.threshold,
        "pass": score.passed,
        "reason": score.reason,
    }


WRITERS: Writers = {
    "sosie.api.generation.Delivered": _delivered,
    "sosie.api.scoring.Judged": _judged,
}
