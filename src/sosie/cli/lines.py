"""The JSON lines of `generate` and `score`, and the table that people read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core import Calibrated, Score, Scorecard, Verdict

if TYPE_CHECKING:
    from rich.table import Table

    from sosie.core import CohortRate


def image_line(image: Path, scorecard: Scorecard, verdict: Verdict, origin: dict[str, Any]) -> dict[str, Any]:
    """One line: `origin` holds plan, parent, seed, attempt and seconds (null where unknown)."""
    return {
        "image": str(image),
        "verdict": verdict.outcome,
        "reasons": list(verdict.reasons),
        "scores": {
            "identity": [_identity(score) for score in scorecard.of("identity")],
            "defects": [_defect(score) for score in scorecard.of("defect")],
        },
        **origin,
    }


def _identity(score: Score) -> dict[str, Any]:
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


def _rate(rate: CohortRate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    return {"fmr": rate.fmr, "fmr_upper95": rate.upper95, "n": rate.n, "cohort": rate.cohort}


def _defect(score: Score) -> dict[str, Any]:
    return {
        "name": score.name,
        "value": score.value,
        "threshold": score.threshold,
        "pass": score.passed,
        "reason": score.reason,
    }


def table(rows: Sequence[tuple[str, Scorecard, Verdict, float | None]]) -> Table:
    """Image, verdict, identity by each judge with its threshold, defects, seconds.

    Below it what set the thresholds, where it was no cohort.
    """
    from rich.markup import escape
    from rich.table import Table

    judges = list(dict.fromkeys(score.name for _, card, _, _ in rows for score in card.of("identity")))
    shown = Table(header_style="bold", row_styles=["", "dim"] if len(rows) > 6 else None)
    for column in ("image", "verdict", *judges, "defects"):
        shown.add_column(column, overflow="fold")
    shown.add_column("seconds", justify="right")
    evidence = [score.evidence for _, card, _, _ in rows for score in card.of("identity") if score.evidence]
    bases = dict.fromkeys(one.basis for one in evidence if one.basis)
    if bases:
        shown.caption = f"thresholds from {'; '.join(bases)}: how many strangers would pass is unknown"
    for image, card, verdict, seconds in rows:
        by_name = {score.name: score for score in card.of("identity")}
        cells = [_value(by_name.get(judge)) for judge in judges]
        defects = [score.name for score in card.of("defect") if not score.passed]
        shown.add_row(
            escape(image),
            "[green]✓ keep[/]" if verdict.outcome == "keep" else f"[red]✗ {verdict.outcome}[/]",
            *cells,
            ", ".join(defects) or "none",
            "" if seconds is None else f"{seconds:.1f}",
        )
    return shown


def _value(score: Score | None) -> str:
    if score is None or score.value is None:
        return "-"
    if score.threshold is None:
        return f"{score.value:.3f}"
    sign = {(True, True): "≥", (True, False): "<", (False, True): "≤", (False, False): ">"}
    colour = "green" if score.passed else "red"
    return f"[{colour}]{score.value:.3f} {sign[score.higher_is_better, bool(score.passed)]} {score.threshold:.3f}[/]"
