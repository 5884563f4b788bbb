"""Publishing the report of an experiment: a page in each language, Markdown, tables and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import DeliveryError
from sosie.core.experiment_result import ExperimentResult
from sosie.files.whole import make_folder, write_whole
from sosie.reports.experiment.markdown import markdown
from sosie.reports.experiment.pictures import Pictures
from sosie.reports.experiment.tables import cells_csv, contrasts_csv, images_csv
from sosie.reports.experiment.view import View
from sosie.reports.page import draw_page
from sosie.reports.words import LANGUAGES, Language, words_of

LARGEST = 10_000_000
"""Bytes of one page; above, its pictures lie in a folder beside it."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a report shows beside the result: the character's references, and where images lie."""

    references: tuple[Path, ...]
    pictures: Pictures


def write_experiment(result: ExperimentResult, material: Material, folder: Path, largest: int = LARGEST) -> Path:
    """Writes pages and Markdown in each language, `report.json` and three tables into `folder`; returns `index.html`.

    Raises `DeliveryError` where they cannot be written; the result itself is safe.
    """
    try:
        make_folder(folder)
        for language in LANGUAGES:
            name = "index.html" if language == "en" else f"index.{language}.html"
            write_whole(folder / name, _fitting(result, language, material, folder, largest))
            report = "report.md" if language == "en" else f"report.{language}.md"
            write_whole(folder / report, markdown(View(result, words_of("experiment", language))))
        write_whole(folder / "report.json", json.dumps(result.to_json(), ensure_ascii=False, indent=1) + "\n")
        write_whole(folder / "cells.csv", cells_csv(result))
        write_whole(folder / "contrasts.csv", contrasts_csv(result))
        write_whole(folder / "images.csv", images_csv(result))
    except OSError as error:
        message = f"the report could not be written to {folder}: {error.strerror or error}; the result is safe"
        raise DeliveryError(message, f"free some space, then: sosie experiment report {result.id}") from None
    return folder / "index.html"


def experiment_page(result: ExperimentResult, language: Language, material: Material) -> str:
    """The page: question and declared design first, then answers, figures, images, failures and how it was made."""
    words = words_of("experiment", language)
    title = result.question or result.name
    return draw_page(
        "experiment.html",
        title,
        result.design_digest[:32],
        view=View(result, words),
        words=words,
        result=result,
        pictures=material.pictures,
        references=material.references[:8],
    )


def _fitting(result: ExperimentResult, language: Language, material: Material, folder: Path, largest: int) -> str:
    """The page with its pictures in it, or, where that is too large, with pictures beside it."""
    page = experiment_page(result, language, material)
    if len(page.encode()) <= largest:
        return page
    own = material.pictures
    beside = Pictures(own.paths, own.detector, True)
    page = experiment_page(result, language, Material(material.references, beside))
    make_folder(folder / "images")
    for name, data in beside.files.items():
        write_whole(folder / "images" / name, data)
    return page
