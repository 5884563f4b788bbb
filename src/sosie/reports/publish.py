"""Publishing a report: a contact sheet to look at and a page to read."""

from __future__ import annotations

from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from sosie.core.errors import DeliveryError
from sosie.reports.page import draw_page
from sosie.reports.place import mark, publish
from sosie.reports.report import Report
from sosie.reports.sheet import contact_sheet

SIDE = 512


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Writes sheet and page into `folder`, whole or not at all each, and returns where.

    They are `contact-sheet.png` and `index.html`, or have the request in their names where those are another's.
    """
    says = PngInfo()
    says.add_text("Software", mark(report.asked))
    try:
        sheet = contact_sheet(report)
        return (
            publish(folder / "contact-sheet.png", report.asked, lambda stream: sheet.save(stream, "PNG", pnginfo=says)),
            publish(folder / "index.html", report.asked, lambda stream: stream.write(run_page(report).encode())),
        )
    except OSError as error:
        raise DeliveryError(
            f"the report could not be written to {folder}: {error.strerror or error}; the images are safe in the store",
            "free some space and run the same command again: only what is missing is done",
        ) from None


def run_page(report: Report) -> str:
    """The page: references, the gate in words, then every attempt with its scores and reasons."""
    return draw_page("run.html", f"{report.character} by Sosie", report.asked, report=report, side=SIDE)
