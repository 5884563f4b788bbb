"""The report of a training run: the curves, the samples over the steps, and the set that was learned from.

One self-contained HTML file, no script, no network; the curves are SVG.
"""

from __future__ import annotations

import base64
import importlib.resources
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from sosie import __version__
from sosie.core.errors import DeliveryError
from sosie.files.whole import write_whole

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 190, 64, 22
"""A curve's size in pixels, and the room for its numbers."""

POINTS = 400
"""A loss curve with more steps is shown by the means of so many parts."""

COLOURS = ("#0b6bcb", "#b45309", "#1a7f37", "#8250df", "#b42318", "#6e6e73")
SAMPLE, SET = 180, 140
MAX_STEPS, MAX_SET = 40, 200
"""The samples of so many steps, and so many images of the set, are shown."""

STYLE = (
    ".curves { display: flex; flex-wrap: wrap; gap: 24px } .curves figure { border: 0 } "
    "svg text { font-size: 11px; fill: var(--faint) } svg .axis { stroke: var(--line) } "
    ".samples { overflow-x: auto } .samples td { padding: 2px } .samples img { display: block; border-radius: 4px } "
    ".samples tr.best img { outline: 3px solid var(--good) } "
    ".set { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 12px } "
    ".set img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 4px }"
)


@dataclass(frozen=True)
class SamplesAt:
    """The pictures that were drawn after `step` updates, one a prompt, and what the judges said (may be empty)."""

    step: int
    images: tuple[Path, ...]
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Learned:
    """One image of the set and its caption."""

    image: Path
    caption: str


@dataclass(frozen=True)
class TrainingReport:
    """What the page shows: a sentence on the run, its loss by step, its judgements, and the set. `best`: a step."""

    title: str
    lead: str
    losses: tuple[tuple[int, float], ...]
    samples: tuple[SamplesAt, ...]
    prompts: tuple[str, ...]
    learned: tuple[Learned, ...]
    facts: tuple[tuple[str, str], ...]
    best: int | None = None


def write_training_report(report: TrainingReport, folder: Path) -> Path:
    """Writes `index.html` into `folder`, whole or not at all."""
    page = folder / "index.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(page, training_page(report))
    except OSError as error:
        raise DeliveryError(
            f"the report could not be written to {folder}: {error.strerror or error}; LoRA and record are whole",
            "free some space and run the same command again",
        ) from None
    return page


def training_page(report: TrainingReport) -> str:
    """The page."""
    style = importlib.resources.files("sosie.reports").joinpath("page.css").read_text(encoding="utf-8")
    facts = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}</tr>" for name, value in report.facts)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(report.title)}</title><style>{style}\n{STYLE}</style>",
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="lead">{escape(report.lead)}</p>',
        f"<table>{facts}</table>",
        *_curves(report),
        *_samples(report),
        *_learned(report),
        f'<p class="faint">Made by Sosie {__version__}. The images here are copies for looking at.</p></html>',
        "",
    ]
    return "\n".join(parts)


def _curves(report: TrainingReport) -> list[str]:
    figures: list[str] = []
    if report.losses:
        figures.append(_figure("loss (means of neighbouring steps)", {"loss": _thinned(report.losses)}, report.best))
    scores = _by_name(report.samples)
    groups: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("identity (higher is better)", lambda name: name.startswith("identity ")),
        (
            "copy-paste index (lower), adherence and sound pictures (higher)",
            lambda name: not name.startswith("identity "),
        ),
    )
    for title, belongs in groups:
        lines = {name.removeprefix("identity "): points for name, points in scores.items() if belongs(name)}
        if lines:
            figures.append(_figure(title, lines, report.best))
    return ["<h2>Curves</h2>", '<div class="curves">', *figures, "</div>"] if figures else []


def _by_name(samples: Sequence[SamplesAt]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for at in samples:
        for name, value in at.scores.items():
            if value is not None:
                found.setdefault(name, []).append((at.step, value))
    return found


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    size = max(1, -(-len(points) // POINTS))
    parts = [points[index : index + size] for index in range(0, len(points), size)]
    return [(part[len(part) // 2][0], sum(value for _, value in part) / len(part)) for part in parts]


def _figure(title: str, lines: Mapping[str, Sequence[tuple[int, float]]], best: int | None) -> str:
    """One SVG: a line a name, with points where they are few, and a dashed line at the best step."""
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    first, last = min(steps), max(*steps, min(steps) + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - first) / (last - first) * (WIDTH - LEFT - 8)
        return x, 8 + (high - value) / (high - low) * (HEIGHT - BOTTOM - 8)

    drawn: list[str] = []
    for value in (low, (low + high) / 2, high):
        y = place(first, value)[1]
        drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for step, anchor in ((first, "start"), (last, "end")):
        drawn.append(f'<text x="{place(step, low)[0]:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{step}</text>')
    if best is not None and first <= best <= last:
        x = place(best, low)[0]
        drawn.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT - BOTTOM}" stroke="#1a7f37" stroke-dasharray="4"/>'
        )
    legend: list[str] = []
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        drawn.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        if len(points) <= 60:
            drawn += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
                for x, y in (place(*point) for point in points)
            ]
        legend.append(f'<span style="color:{colour}">■</span> {escape(name)}')
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
        f'<figcaption class="faint">{escape(title)} by step: {" ".join(legend)}</figcaption></figure>'
    )


def _samples(report: TrainingReport) -> list[str]:
    """A row a step, a column a prompt; of very many steps the first, the best, and others evenly."""
    if not report.samples:
        return []
    shown = list(report.samples)
    if len(shown) > MAX_STEPS:
        every = -(-len(shown) // MAX_STEPS)
        shown = [at for place, at in enumerate(shown) if place % every == 0 or at.step == report.best]
    head = "".join(f"<th>{escape(prompt)}" for prompt in report.prompts)
    rows: list[str] = []
    for at in shown:
        cells = "".join(
            f'<td><img src="{_inline(path, SAMPLE)}" alt="step {at.step}" width="{SAMPLE}">' for path in at.images
        )
        scores = "<br>".join(
            f"{escape(name)} {'-' if value is None else f'{value:.3f}'}" for name, value in at.scores.items()
        )
        mark = ' class="best"' if at.step == report.best else ""
        rows.append(f'<tr{mark}><td class="n">step {at.step}<br><span class="faint">{scores}</span>{cells}</tr>')
    return ["<h2>Samples</h2>", f'<div class="samples"><table><tr><th>{head}</tr>', *rows, "</table></div>"]


def _learned(report: TrainingReport) -> list[str]:
    figures = [
        f'<figure><img src="{_inline(one.image, SET)}" alt="">'
        f'<figcaption class="faint">{escape(one.caption)}</figcaption></figure>'
        for one in report.learned[:MAX_SET]
    ]
    more = len(report.learned) - len(figures)
    title = f"Training set: {len(report.learned)} images" + (f", the first {MAX_SET} shown" if more else "")
    return [f"<h2>{title}</h2>", '<div class="set">', *figures, "</div>"]


def _inline(path: Path, side: int) -> str:
    """The picture as a data URL: WebP, no side longer than twice `side` pixels."""
    with Image.open(path) as source:
        image = source.convert("RGB")
    image.thumbnail((2 * side, 2 * side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
