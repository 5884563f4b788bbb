"""The report of an experiment: one source for page, Markdown and tables; English and French; small enough to send."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from experiments import result
from PIL import Image

from sosie.reports.experiment.figures import extremes, heats, intervals, running_means
from sosie.reports.experiment.markdown import markdown
from sosie.reports.experiment.pictures import Pictures
from sosie.reports.experiment.publish import Material, experiment_page, write_experiment
from sosie.reports.experiment.tables import cells_csv, images_csv
from sosie.reports.experiment.view import View
from sosie.reports.words import LANGUAGES, words_of


class Nobody:
    """A detector that finds no face."""

    def detect(self, pixels: Any) -> list[Any]:
        return []


@pytest.fixture
def material(tmp_path: Path) -> Material:
    picture = tmp_path / "image.png"
    Image.effect_noise((64, 64), 40).convert("RGB").save(picture)
    detector: Any = Nobody()
    return Material((picture,), Pictures({"0" * 64: picture}, detector))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        self.scripts += tag == "script"


def tags(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    return found


def test_both_languages_have_the_same_texts_and_each_is_its_own() -> None:
    english, french = (words_of("experiment", language).texts for language in LANGUAGES)
    assert list(english) == list(french)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", french[key])), key
    assert words_of("experiment", "fr").number(-1234.5, 1) == "\u22121234,5"
    assert words_of("experiment", "en").number(None) == "-"


def test_the_page_says_question_design_answers_failures_and_how_to_repeat_it(material: Material) -> None:
    page = experiment_page(result(), "en", material)
    order = [
        "Which CFG keeps the face?",
        "Declared before anything was drawn",
        "Answers",
        "What failed",
        "To repeat it",
    ]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    for text in (
        "cfg=5 is better than cfg=4",
        "+0.10",
        "undecided",
        "SOS-Q010",
        "the server went away",
        "1 image could not be drawn",
        "sosie experiment run cfg.toml",
        result().digest,
        'lang="en"',
    ):
        assert text in page


def test_the_page_needs_no_script_no_network_and_every_picture_has_words(material: Material) -> None:
    found = tags(experiment_page(result(), "en", material))
    assert found.scripts == 0
    assert len(found.images) > 8
    for image in found.images:
        assert (image["src"] or "").startswith("data:image/webp;base64,")
        assert image["alt"]
    assert "http" not in re.sub(r"data:[^\"]+", "", experiment_page(result(), "en", material))


def test_the_french_page_is_french(material: Material) -> None:
    page = experiment_page(result(), "fr", material)
    assert 'lang="fr"' in page
    assert "+0,10" in page
    assert "cfg=5 est meilleur que cfg=4" in page
    assert "Declared" not in page


def test_a_claim_whose_interval_touches_zero_says_why(material: Material) -> None:
    plain, touching = result(), result()
    first = replace(touching.contrasts[0], low=-0.01)
    touching = replace(touching, contrasts=(first, *touching.contrasts[1:]))
    for language, said in (("en", "Holm&#39;s test"), ("fr", "test de Holm")):
        assert said not in experiment_page(plain, language, material)
        assert said in experiment_page(touching, language, material)
    words = words_of("experiment", "en")
    assert "Holm's test" in markdown(View(touching, words))
    assert "Holm's test" not in markdown(View(plain, words))


def test_what_users_write_is_escaped(material: Material) -> None:
    page = experiment_page(replace(result(), question="<script>x</script>"), "en", material)
    assert tags(page).scripts == 0


def test_a_large_page_becomes_a_folder(material: Material, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    page = write_experiment(result(), material, folder, largest=2_000)
    found = tags(page.read_text())
    assert found.images
    assert all((folder / str(image["src"])).is_file() for image in found.images)
    assert "data:image" not in page.read_text()


def test_all_files_hold_the_same_figures(material: Material, tmp_path: Path) -> None:
    write_experiment(result(), material, tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {
        *("index.html", "index.fr.html", "report.md", "report.fr.md", "report.json"),
        *("cells.csv", "contrasts.csv", "images.csv"),
    }
    table = json.loads((tmp_path / "report" / "report.json").read_text())
    assert table["digest"] == result().digest
    arms = list(csv.DictReader(io.StringIO(cells_csv(result()))))
    assert [(row["arm"], row["cfg"], float(row["endpoint"])) for row in arms] == [
        ("cfg=4", "4", 1.4),
        ("cfg=5", "5", 1.5),
        ("cfg=6", "6", 0.2),
    ]
    text = markdown(View(result(), words_of("experiment", "en")))
    assert "| cfg=5 against cfg=4 | better | +0.10 (+0.05 to +0.15) |" in text


def test_a_table_holds_no_formula_and_every_image(material: Material) -> None:
    rows = list(csv.DictReader(io.StringIO(images_csv(replace(result(), prompts=("=1+1", "x"))))))
    assert len(rows) == 12
    assert {row["prompt"] for row in rows} == {"'=1+1", "x"}
    assert [row["error"] for row in rows if row["error"]] == ["the server went away"]


def test_an_empty_experiment_has_a_page_that_says_so(material: Material) -> None:
    empty = replace(result(), state="empty", cells=(), winner=None, contrasts=(), arms=())
    page = experiment_page(empty, "en", material)
    assert "Nothing was drawn yet." in page
    assert "<svg" not in page


def test_figures_place_what_they_show() -> None:
    plot = intervals(result().contrasts, 0.1, 1.0)
    assert plot is not None
    better = plot.rows[0]
    assert better.low is not None
    assert better.middle is not None
    assert better.high is not None
    assert plot.zero < better.low < better.middle < better.high
    assert plot.band[0] < plot.zero < plot.band[1]
    assert heats(result().arms) == ()
    arms = [replace(arm, levels={"cfg": arm.name[-1], "steps": "8"}) for arm in result().arms]
    (heat,) = heats(arms)
    assert [row[0].value for row in heat.cells] == [1.4, 1.5, 0.2]
    assert heat.cells[1][0].is_dark
    means = running_means(result())["cfg=5 against cfg=4"]
    assert [round(value, 3) for _, value in means] == [0.1] * 4
    best, worst = extremes(result().cells, 2)
    assert [cell.score for cell in best] == [1.5, 1.5]
    assert worst[0].score is None


def test_the_last_label_of_an_axis_is_not_cut() -> None:
    wide = replace(result().contrasts[0], estimate=0.174, low=-0.029, high=0.376)
    plot = intervals((wide,), 0.2, 0.8)
    assert plot is not None
    half = 18  # of "+0.40", in pixels
    assert plot.ticks[-1][1] == pytest.approx(0.4)
    assert plot.ticks[-1][0] + half <= plot.width
