"""The report of a run: a contact sheet to look at and a page to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sosie.core import Plan, Score, Scorecard, Verdict
from sosie.core.errors import DeliveryError
from sosie.scorers.identity import Gate


@dataclass(frozen=True)
class Row:
    """One attempt: the raw image, the delivered file's name (empty if not kept), and its evidence."""

    image: Path
    delivered: str
    plan: Plan
    scorecard: Scorecard
    verdict: Verdict
    seconds: float

    @property
    def kept(self) -> bool:
        """Whether the image was delivered."""
        return self.verdict.outcome == "keep"


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that sheet and page show: references, attempts in order, and the gate they met."""

    character: str
    references: tuple[Path, ...]
    rows: tuple[Row, ...]
    gate: Gate

    @property
    def kept(self) -> tuple[Row, ...]:
        """The delivered ones, in order."""
        return tuple(row for row in self.rows if row.kept)


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Writes `contact-sheet.png` and `index.html` into `folder`, whole or not at all each."""
    from sosie.lab.page import page_html
    from sosie.lab.sheet import contact_sheet

    sheet, page = folder / "contact-sheet.png", folder / "index.html"
    try:
        part = folder / ".contact-sheet.part.png"
        contact_sheet(report).save(part)
        part.replace(sheet)
        part = folder / ".index.part.html"
        part.write_text(page_html(report), encoding="utf-8")
        part.replace(page)
    except OSError as error:
        raise DeliveryError(
            f"the report could not be written to {folder}: {error.strerror or error}; the images are safe in the store",
            "free some space and run the same command again: only what is missing is done",
        ) from None
    return sheet, page


def describe(score: Score) -> str:
    """A score in a few words: `sface 0.71 (at least 0.62)`."""
    if score.value is None:
        return f"{score.name} -"
    if score.threshold is None:
        return f"{score.name} {score.value:.2f}"
    bound = "at least" if score.higher_is_better else "at most"
    return f"{score.name} {score.value:.2f} ({bound} {score.threshold:.2f})"
