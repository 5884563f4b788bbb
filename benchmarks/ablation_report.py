"""What an ablation measured, as tables, a plot and a contact sheet.

    python benchmarks/ablation_report.py WORK/ docs/

Writes the part of DOCS/ablation.md between its marks, DOCS/images/ablation.png and DOCS/images/ablation-sheet.jpg.
Intervals are 95 % bootstrap intervals over people: eight people are drawn with replacement, 4,000 times, each with
all of their images; of a difference, each person's two columns are drawn together.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation import BODIES, BODY, COLUMNS, PROMPTS, Work
from PIL import Image, ImageDraw, ImageFont

from sosie.scorers.statistics import auc

PARTS = {
    "text": "text only",
    "plain": "plain LoRA",
    "lora": "LoRA",
    "faceid": "FaceID",
    "full": "both in full",
    "lora-faceid": "both, weaker",
}
TITLES = {**PARTS, **{column: f"{PARTS[body]}, face pass" for column, body in BODY.items()}}
DRAWS = 4000
SMALL, LARGE = 15, 18
COLOURS = {"text": "#7a7a7a", "plain": "#b08b00", "lora": "#c2571a", "faceid": "#1f6fb4"}
COLOURS |= {"full": "#8a4fb0", "lora-faceid": "#2c8a3d"}

Scores = list[dict[str, Any]]


@dataclass(frozen=True)
class Measure:
    """A row of the table: its title, the value of one person's images (None: not measured), and how it is written."""

    title: str
    value: Callable[[Scores], float | None]
    form: str = "{:.3f}"


def mean(pick: Callable[[dict[str, Any]], float | None]) -> Callable[[Scores], float | None]:
    def value(scores: Scores) -> float | None:
        values = [value for score in scores if (value := pick(score)) is not None]
        return float(np.mean(values)) if values else None

    return value


def of(judge: str, what: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda score: float(np.mean(score[judge][what])) if judge in score else None


def separation(judge: str, sign: int) -> Callable[[Scores], float | None]:
    """ROC-AUC of one person's images: their own person against the seven others."""

    def value(scores: Scores) -> float | None:
        seen = [score[judge] for score in scores if judge in score]
        own = np.array([score["own"] for score in seen])
        return auc(sign * own, sign * np.concatenate([score["other"] for score in seen])) if seen else None

    return value


PERCENT = "{:.0%}"
MEASURES = (
    Measure("SFace cosine to held-out references, own person", mean(of("sface", "own"))),
    Measure("SFace cosine, other people", mean(of("sface", "other"))),
    Measure("ROC-AUC own against other people, SFace", separation("sface", 1)),
    Measure("dlib distance to held-out references, own person (lower is nearer)", mean(of("dlib", "own"))),
    Measure("dlib distance, other people", mean(of("dlib", "other"))),
    Measure("ROC-AUC own against other people, dlib", separation("dlib", -1)),
    Measure("kept by the gate", mean(lambda score: score["kept"]), PERCENT),
    Measure("copy-paste index, SFace", mean(of("sface", "copy"))),
    Measure("copy-paste index, dlib", mean(of("dlib", "copy"))),
    Measure("prompt adherence", mean(lambda score: score["adherence"]), PERCENT),
    Measure("images with a defect", mean(lambda score: bool(score["defects"])), PERCENT),
    Measure("face passes refused (seam)", mean(lambda score: score["refused"]), PERCENT),
)
PLOTTED = (0, 3, 6, 7, 9)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the people's values and its bootstrap interval."""
    rows = np.asarray(values, float)
    means = rows[np.random.default_rng(0).integers(len(rows), size=(DRAWS, len(rows)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(rows.mean()), float(low), float(high)


class Results:
    """The scores by column and person."""

    def __init__(self, work: Work) -> None:
        scores = work.read("scores")
        self.people = sorted({key.partition("/")[2].rpartition("-")[0] for key in scores})
        self.by = {
            (column, person): [scores[f"{column}/{person}-{index}"] for index in range(len(PROMPTS))]
            for column in COLUMNS
            for person in self.people
        }

    def values(self, measure: Measure, column: str) -> list[float]:
        """One value a person."""
        values = [measure.value(self.by[column, person]) for person in self.people]
        return [value for value in values if value is not None]

    def scores(self, column: str) -> Scores:
        return [score for person in self.people for score in self.by[column, person]]


def written(form: str, numbers: tuple[float, float, float], sign: str = "") -> str:
    middle, low, high = (form.replace("{:", "{:" + sign).format(number) for number in numbers)
    return f"{middle} ({low} to {high})"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main_table(results: Results, columns: Sequence[str], seconds: list[str]) -> str:
    rows = [["", *(TITLES[column] for column in columns)]]
    for measure in MEASURES:
        cells = [written(measure.form, interval(results.values(measure, column))) for column in columns]
        rows.append([measure.title, *cells])
    return markdown([*rows, seconds])


def differences(results: Results) -> str:
    """What a column adds to another, person by person; shares in percentage points."""
    pairs = [("text", "lora"), ("plain", "lora"), ("text", "faceid"), ("lora", "full"), ("faceid", "lora-faceid")]
    pairs += [("lora", "lora-faceid"), ("lora-faceid", "lora-faceid-pass")]
    rows = [["", *(f"{TITLES[new]} less {TITLES[old]}" for old, new in pairs)]]
    for measure in MEASURES:
        if measure.form == PERCENT or "own person" in measure.title or "copy" in measure.title:
            by = {column: np.array(results.values(measure, column)) for column in COLUMNS}
            apart = [interval(by[new] - by[old]) for old, new in pairs]
            if "refused" not in measure.title and any(numbers != (0, 0, 0) for numbers in apart):
                rows.append([measure.title, *(written(measure.form, numbers, "+") for numbers in apart)])
    return markdown(rows)


def attributes(results: Results) -> str:
    """How often each attribute that a prompt names is seen."""
    names = list(
        dict.fromkeys(name for column in COLUMNS for score in results.scores(column) for name in score["answers"])
    )
    rows = [["attribute", "asked", *(TITLES[column] for column in COLUMNS)]]
    for name in names:
        met = [[s["answers"][name] for s in results.scores(column) if name in s["answers"]] for column in COLUMNS]
        rows.append([name, str(len(met[0])), *(f"{np.mean(column):.0%}" for column in met)])
    return markdown(rows)


def people(results: Results) -> str:
    """Kept images a person."""
    rows = [["kept", *(TITLES[column] for column in COLUMNS)]]
    for person in results.people:
        kept = [sum(score["kept"] for score in results.by[column, person]) for column in COLUMNS]
        rows.append([person, *(f"{count} of {len(PROMPTS)}" for count in kept)])
    return markdown(rows)


def seconds_row(work: Work, columns: Sequence[str]) -> list[str]:
    """Median seconds of a whole image, by the device; those of a face pass include its body."""
    devices = [(device, work.read(f"seconds-{device}")) for device in ("cuda", "cpu")]
    devices = [(device, table) for device, table in devices if table]
    texts = ["" for _ in columns]
    for _, table in devices:
        took = {c: statistics.median(v for k, v in table.items() if k.startswith(f"{c}/")) for c in COLUMNS}
        whole = {c: took[c] + (took[BODY[c]] if c in BODY else 0) for c in COLUMNS}
        for place, column in enumerate(columns):
            texts[place] += f"{' / ' if texts[place] else ''}{whole[column]:.2g} s"
    return ["seconds an image, " + " / ".join(device for device, _ in devices), *texts]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, three to eight of them."""
    power = 10.0 ** np.floor(np.log10((high - low) / 3))
    step = next(power * factor for factor in (5, 2, 1) if power * factor <= (high - low) / 3)
    return [number * step for number in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def plot(results: Results, target: Path) -> None:
    """A panel for each of the main measures: each column's mean, its interval, and each person's value."""
    width, panel, left = 1100, 70 + 22 * len(COLUMNS), 210
    image = Image.new("RGB", (width, panel * len(PLOTTED) + 10), "white")
    draw = ImageDraw.Draw(image)
    small, large = ImageFont.load_default(SMALL), ImageFont.load_default(LARGE)
    for place, number in enumerate(PLOTTED):
        measure, top = MEASURES[number], place * panel + 8
        values = {column: results.values(measure, column) for column in COLUMNS}
        low, high = (end(value for many in values.values() for value in many) for end in (min, max))
        low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)

        def x(value: float, low: float = low, high: float = high) -> float:
            return left + (value - low) / (high - low) * (width - left - 30)

        draw.text((8, top), measure.title, fill="black", font=large)
        for tick in ticks(low, high):
            draw.line((x(tick), top + 28, x(tick), top + panel - 40), fill="#e4e4e4")
            draw.text((x(tick), top + panel - 38), f"{tick:.3g}", fill="#555555", font=small, anchor="ma")
        for row, column in enumerate(COLUMNS):
            y = top + 42 + row * 22
            colour = COLOURS[BODY.get(column, column)]
            inside = "white" if column in BODY else colour
            centre, start, end = interval(values[column])
            draw.text((left - 12, y), TITLES[column], fill="black", font=small, anchor="rm")
            for value in values[column]:
                draw.ellipse((x(value) - 3, y - 3, x(value) + 3, y + 3), outline=colour)
            draw.line((x(start), y, x(end), y), fill=colour, width=4)
            draw.ellipse(
                (x(centre) - 7, y - 7, x(centre) + 7, y + 7),
                fill=inside,
                outline=colour,
                width=2,
            )
    image.quantize(64).save(target, optimize=True)


def sheet(work: Work, results: Results, target: Path, side: int = 128) -> None:
    """One row a person, the n-th person with the n-th prompt: a held-out reference and the image of each column."""
    characters = Path(work.read("plans")["characters"])
    font = ImageFont.load_default(SMALL)
    made = Image.new("RGB", (side * (1 + len(COLUMNS)), 22 + side * len(results.people)), "white")
    draw = ImageDraw.Draw(made)
    for column, title in enumerate(("reference", *(title.replace("face pass", "pass") for title in TITLES.values()))):
        draw.text((column * side + side // 2, 3), title, fill="black", font=font, anchor="ma")
    for row, person in enumerate(results.people):
        last = Image.open(sorted((characters / person).glob("*.jpg"))[-1]).convert("RGB")
        for column, tile in enumerate((last, *(work.image(f"{name}/{person}-{row}") for name in COLUMNS))):
            made.paste(tile.resize((side, side), Image.Resampling.LANCZOS), (column * side, 22 + row * side))
    made.save(target, quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("docs", type=Path)
    asked = parser.parse_args()
    work = Work(asked.work)
    results = Results(work)
    (asked.docs / "images").mkdir(exist_ok=True)
    plot(results, asked.docs / "images" / "ablation.png")
    sheet(work, results, asked.docs / "images" / "ablation-sheet.jpg")
    tables = [main_table(results, columns, seconds_row(work, columns)) for columns in (BODIES, tuple(BODY))]
    tables += [differences(results), attributes(results), people(results)]
    report = "\n\n".join(tables)
    page = asked.docs / "ablation.md"
    head, _, rest = page.read_text().partition("<!-- measured -->")
    page.write_text(f"{head}<!-- measured -->\n\n{report}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}")
    print(report)


if __name__ == "__main__":
    main()
