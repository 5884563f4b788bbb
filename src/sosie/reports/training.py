"""The report of a training run: the curves, the samples over the steps, and the set that was learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import DeliveryError
from sosie.reports.curves import Figure, lay_out, thinned
from sosie.reports.page import draw_page
from sosie.reports.place import publish

SAMPLE = 180
MAX_STEPS, MAX_SET = 40, 200
"""The samples of so many steps, and so many images of the set, are shown."""


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
    """What the page shows: a sentence on the run, its loss by step, its judgements, and the set. `best`: a step.

    `asked`: see `place`.
    """

    title: str
    lead: str
    losses: tuple[tuple[int, float], ...]
    samples: tuple[SamplesAt, ...]
    prompts: tuple[str, ...]
    learned: tuple[Learned, ...]
    facts: tuple[tuple[str, str], ...]
    best: int | None = None
    asked: str = ""


def write_training_report(report: TrainingReport, folder: Path) -> Path:
    """Writes `index.html` into `folder`, whole or not at all; under another name where that is not this run's."""
    try:
        page = training_page(report).encode()
        return publish(folder / "index.html", report.asked, lambda stream: stream.write(page))
    except OSError as error:
        raise DeliveryError(
            f"the report could not be written to {folder}: {error.strerror or error}; LoRA and record are whole",
            "free some space and run the same command again",
        ) from None


def training_page(report: TrainingReport) -> str:
    """The page."""
    return draw_page(
        "training.html",
        report.title,
        report.asked,
        report=report,
        curves=_curves(report),
        samples=_shown(report),
        shown=report.learned[:MAX_SET],
        side=SAMPLE,
    )


def _curves(report: TrainingReport) -> list[Figure]:
    scores: dict[str, list[tuple[int, float]]] = {}
    for at in report.samples:
        for name, value in at.scores.items():
            if value is not None:
                scores.setdefault(name, []).append((at.step, value))
    judges, errors = _named(scores, "identity "), _named(scores, "error ")
    others = {name: points for name, points in scores.items() if not name.startswith(("identity ", "error "))}
    curves = {
        "loss (means of neighbouring steps)": {"loss": thinned(report.losses)} if report.losses else {},
        "error at fixed noise levels, of pictures learned from and held back (lower is better)": errors,
        "identity (higher is better)": judges,
        "copy-paste index (lower), adherence and sound pictures (higher)": others,
    }
    return [lay_out(title, lines, report.best) for title, lines in curves.items() if lines]


def _named(scores: Mapping[str, list[tuple[int, float]]], kind: str) -> dict[str, list[tuple[int, float]]]:
    return {name.removeprefix(kind): points for name, points in scores.items() if name.startswith(kind)}


def _shown(report: TrainingReport) -> Sequence[SamplesAt]:
    """All steps, or of very many the first, the best, and others evenly."""
    if len(report.samples) <= MAX_STEPS:
        return report.samples
    every = -(-len(report.samples) // MAX_STEPS)
    return [at for place, at in enumerate(report.samples) if place % every == 0 or at.step == report.best]
