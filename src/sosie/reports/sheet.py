"""The contact sheet: references on top, then every image with its scores and its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sosie.files.images import read_image
from sosie.reports.report import Report, describe
from sosie.store.record import StoredAttempt

TILE = 256
GAP = 20
COLUMNS = 4
LINE = 17
CAPTION = 8 * LINE
MAX_ROWS = 200
INK, PAPER, FAINT, GOOD, BAD = "#1c1c1e", "#ffffff", "#6e6e73", "#1a7f37", "#b42318"


@dataclass(frozen=True, eq=False)
class _Fonts:
    title: Any
    text: Any
    bold: Any


def contact_sheet(report: Report) -> Image.Image:
    """An RGB picture, `COLUMNS` images wide; kept ones first, at most `MAX_ROWS` attempts."""
    fonts = _Fonts(ImageFont.load_default(26), ImageFont.load_default(13), ImageFont.load_default(15))
    groups = [("kept", report.kept), ("not kept", report.rejected)]
    groups = [(title, rows[:MAX_ROWS]) for title, rows in groups if rows]
    width = COLUMNS * (TILE + GAP) + GAP
    small = (width - GAP) // max(6, min(12, len(report.references))) - GAP
    height = 90 + small + 2 * GAP + sum(50 + _lines(rows) * (TILE + CAPTION + GAP) for _, rows in groups) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 16), report.character, INK, fonts.title)
    draw.text((GAP, 52), _headline(report), FAINT, fonts.bold)
    y = _references(sheet, report.references, small, 84)
    for title, rows in groups:
        draw.text((GAP, y + 14), f"{title}: {len(rows)}", GOOD if title == "kept" else BAD, fonts.title)
        y += 50
        for index, row in enumerate(rows):
            place = (GAP + index % COLUMNS * (TILE + GAP), y + index // COLUMNS * (TILE + CAPTION + GAP))
            _tile(sheet, row, place, fonts)
        y += _lines(rows) * (TILE + CAPTION + GAP)
    return sheet


def _lines(rows: Sequence[StoredAttempt]) -> int:
    return -(-len(rows) // COLUMNS)


def _headline(report: Report) -> str:
    text = f"{len(report.references)} references, {len(report.kept)} of {len(report.rows)} images kept"
    joint = report.gate.joint
    if joint is None:
        bases = dict.fromkeys(judge.basis for judge in report.gate.unrated)
        return f"{text}; thresholds from {'; '.join(bases)} (strangers unknown)" if bases else text
    return (
        f"{text}; of {joint.n} impostors ({joint.cohort}) {100 * joint.fmr:.1f} % pass, "
        f"95 % bound {100 * joint.upper95:.1f} %"
    )


def _references(sheet: Image.Image, paths: Sequence[Path], size: int, y: int) -> int:
    for index, path in enumerate(paths[: (sheet.width - GAP) // (size + GAP)]):
        sheet.paste(_square(path, size), (GAP + index * (size + GAP), y))
    return y + size + GAP


def _tile(sheet: Image.Image, row: StoredAttempt, place: tuple[int, int], fonts: _Fonts) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = place
    colour = GOOD if row.kept else BAD
    sheet.paste(_square(row.render.image, TILE), place)
    draw.rectangle((x - 2, y - 2, x + TILE + 1, y + TILE + 1), outline=colour, width=2)
    y += TILE + 6
    for line in textwrap.wrap(row.render.plan.requested.prompt or row.render.plan.prompt, 40)[:2]:
        draw.text((x, y), line, INK, fonts.text)
        y += LINE
    for score in row.scorecard.of("identity"):
        draw.text((x, y), describe(score), BAD if score.passed is False else INK, fonts.text)
        y += LINE
    summary = "no defects" if all(score.passed for score in row.scorecard.of("defect")) else ""
    for line in textwrap.wrap("; ".join(row.verdict.reasons) or summary, 40)[:4]:
        draw.text((x, y), line, FAINT if row.kept else BAD, fonts.text)
        y += LINE


def _square(path: Path, size: int) -> Image.Image:
    """The picture, fitted into a square on grey."""
    image = read_image(path)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    if max(image.size) < size:
        scale = size / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (size, size), "#e5e5ea")
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square
