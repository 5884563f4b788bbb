"""Publishing a report: a contact sheet to look at and a page to read."""

from __future__ import annotations

from pathlib import Path

from sosie.core.errors import DeliveryError
from sosie.files.whole import whole_stream, write_whole
from sosie.reports.page import draw_page
from sosie.reports.report import Report
from sosie.reports.sheet import contact_sheet

SIDE = 512


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Writes `contact-sheet.png` and `index.html` into `folder`, whole or not at all each."""
    sheet, page = folder / "contact-sheet.png", folder / "index.html"
    try:
        with whole_stream(sheet) as stream:
            contact_sheet(report).save(stream, "PNG")
        write_whole(page, run_page(report))
    except OSError as error:
        raise DeliveryError(
            f"the report could not be written to {folder}: {error.strerror or error}; the images are safe in the store",
            "free some space and run the same command again: only what is missing is done",
        ) from None
    return sheet, page


def run_page(report: Report) -> str:
    """The page: references, the gate in words, then every attempt with its scores and reasons."""
    return draw_page("run.html", f"{report.character} by Sosie", report=report, side=SIDE)
