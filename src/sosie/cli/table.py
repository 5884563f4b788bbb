"""The table of `generate` and `score` that people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sosie.core.printable import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from sosie.core import Score, Scorecard, Verdict


def table(rows: Sequence[tuple[str, Scorecard, Verdict, float | None]]) -> Table:
    """Image, verdict, identity by each judge with its threshold, defects, looks if one is bad, seconds.

    Below it what set the thresholds, where it was no cohort.
    """
    from rich.table import Table
    from rich.text import Text

    judges = list(dict.fromkeys(score.name for _, card, _, _ in rows for score in card.of("identity")))
    shown = Table(header_style="bold", row_styles=["", "dim"] if len(rows) > 6 else None)
    looks = ["looks"] if any(_bad_looks(card) for _, card, _, _ in rows) else []
    for column in ("image", "verdict", *judges, "defects", *looks):
        shown.add_column(column, overflow="fold")
    shown.add_column("seconds", justify="right")
    evidence = [score.evidence for _, card, _, _ in rows for score in card.of("identity") if score.evidence]
    bases = dict.fromkeys(one.basis for one in evidence if one.basis)
    if bases:
        shown.caption = f"thresholds from {'; '.join(bases)}: how many strangers would pass is unknown"
    for image, card, verdict, seconds in rows:
        by_name = {score.name: score for score in card.of("identity")}
        cells = [_value(by_name.get(judge)) for judge in judges]
        defects = [score.name for score in card.alarms]
        shown.add_row(
            Text(printable(image)),
            Text("✓ keep", "green") if verdict.outcome == "keep" else Text(f"✗ {verdict.outcome}", "red"),
            *cells,
            Text(", ".join(defects) or "none"),
            *(Text(_bad_looks(card) or "good") for _ in looks),
            "" if seconds is None else f"{seconds:.1f}",
        )
    return shown


def _bad_looks(card: Scorecard) -> str:
    """The looks that are on the wrong side of their thresholds, with their values."""
    return ", ".join(f"{score.name} {score.value:.3g}" for score in card.of("look") if score.passed is False)


def _value(score: Score | None) -> Text:
    from rich.text import Text

    if score is None or score.value is None:
        return Text("-")
    if score.threshold is None:
        return Text(f"{score.value:.3f}")
    sign = {(True, True): "≥", (True, False): "<", (False, True): "≤", (False, False): ">"}
    colour = "green" if score.passed else "red"
    mark = sign[score.higher_is_better, bool(score.passed)]
    return Text(f"{score.value:.3f} {mark} {score.threshold:.3f}", colour)
