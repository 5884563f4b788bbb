"""The run's page: one self-contained HTML file, no script, no network."""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections.abc import Iterable
from html import escape
from pathlib import Path

from PIL import Image

from sosie import __version__
from sosie.core import CohortRate, Score
from sosie.reports.report import Report, Row, without_cohort
from sosie.scorers.statistics import wilson

SIDE = 512


def page_html(report: Report) -> str:
    """The page: references, the gate in words, then every attempt with its scores and reasons."""
    rejected = [row for row in report.rows if not row.kept]
    parts = [
        f"<h1>{escape(report.character)}</h1>",
        f'<p class="lead">{escape(_lead(report))}</p>',
        '<div class="references">',
        *(f'<img src="{_inline(path, 220)}" alt="reference {i + 1}">' for i, path in enumerate(report.references)),
        "</div>",
        *_section("Kept", report.kept),
        *_section("Not kept", rejected),
        f'<p class="faint">Made by Sosie {__version__}. The images here are copies for looking at; the delivered '
        "files carry the provenance manifest: <code>sosie verify IMAGE</code>.</p>",
    ]
    style = importlib.resources.files("sosie.reports").joinpath("page.css").read_text(encoding="utf-8")
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(report.character)} by Sosie</title><style>{style}</style>"
    )
    return "\n".join([head, *parts, "</html>", ""])


def _lead(report: Report) -> str:
    share = wilson(len(report.kept), len(report.rows))
    text = (
        f"{share.k} of {share.n} images kept: {100 * share.rate:.0f} % "
        f"(95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)."
    )
    if report.gate.joint is not None:
        text += f" An image is kept if every judge passes it and no defect is found. {_rate(report.gate.joint)}"
    if report.gate.others is not None:
        text += f" Of other people: {_rate(report.gate.others)}"
    if sentence := without_cohort(report.gate):
        text += f" {sentence}"
    if report.gate.guided_by:
        text += f" The images were guided by {', '.join(report.gate.guided_by)}, which does not judge."
    return text


def _rate(rate: CohortRate) -> str:
    return (
        f"The thresholds let {rate.false_matches} of {rate.n} impostors of the cohort '{rate.cohort}' pass "
        f"(false-match rate {100 * rate.fmr:.1f} %, 95 % upper bound {100 * rate.upper95:.1f} %)."
    )


def _section(title: str, rows: Iterable[Row]) -> list[str]:
    figures = [_figure(row) for row in rows]
    return [f"<h2>{title}: {len(figures)}</h2>", '<div class="grid">', *figures, "</div>"] if figures else []


def _figure(row: Row) -> str:
    defects = row.scorecard.of("defect")
    found = sum(not score.passed for score in defects)
    summary = (
        f"{found} of {len(defects)} defect checks did not pass" if found else f"{len(defects)} defect checks passed"
    )
    judges = "".join(_identity(score) for score in row.scorecard.of("identity"))
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in row.verdict.reasons)
    draw = row.plan.draw
    lines = [
        f'<figure class="{"keep" if row.kept else "not"}">',
        f'<img src="{_inline(row.image, SIDE)}" alt="{escape(row.plan.prompt)}"><figcaption>',
        f'<div class="verdict">{escape(row.delivered or row.verdict.outcome)}</div>',
        f"<div>{escape(row.plan.requested.prompt or row.plan.prompt)}</div>",
        f"<ul>{reasons}</ul>" if reasons else "",
        f"<table><tr><th>judge<th>value<th>threshold<th>false matches</tr>{judges}</table>",
        f'<details><summary class="faint">{summary}</summary><table>{"".join(map(_defect, defects))}</table></details>',
        f'<div class="faint">seed {row.plan.seed}, image {draw.index + 1}, attempt {draw.attempt + 1}, ',
        f"{row.seconds:.1f} s<br><code>plan {row.plan.id[:16]}</code></div></figcaption></figure>",
    ]
    return "".join(lines)


def _identity(score: Score) -> str:
    if score.value is None or score.threshold is None:
        return f'<tr><td>{escape(score.name)}<td colspan="3" class="faint">{escape(score.reason)}</tr>'
    rate = f"{100 * score.rate.fmr:.1f} %" if score.rate else "unknown"
    sign = "≥" if score.higher_is_better else "≤"
    return (
        f'<tr><td>{escape(score.name)}<td class="n {"pass" if score.passed else "fail"}">'
        f'<abbr title="{"passes" if score.passed else "fails"}">{"✓" if score.passed else "✗"}</abbr> {score.value:.3f}'
        f'<td class="n">{sign} {score.threshold:.3f}<td class="n">{rate}</tr>'
    )


def _defect(score: Score) -> str:
    value = "-" if score.value is None else f"{score.value:g}"
    mark = {True: '<span class="pass">✓ passes</span>', False: '<span class="fail">✗ fails</span>', None: "no value"}
    return f'<tr><td>{escape(score.name)}<td class="n">{value}<td>{mark[score.passed]}<td>{escape(score.reason)}</tr>'


def _inline(path: Path, side: int) -> str:
    """The picture as a data URL: WebP, no side longer than `side` pixels."""
    with Image.open(path) as source:
        image = source.convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
