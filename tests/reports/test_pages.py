"""The pages of runs and trainings: every text is shown as it is and never as HTML, and nothing is fetched."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from renders import CARD, KEEP, a_render, deliver

from sosie.core import CohortRate, Score, Scorecard, Verdict
from sosie.core.errors import DeliveryError
from sosie.reports.publish import run_page, write_report
from sosie.reports.report import Report
from sosie.reports.training import Learned, SamplesAt, TrainingReport, training_page
from sosie.scorers.identity import Gate
from sosie.store import Store
from sosie.store.record import Record

HOSTILE = """</style><script>alert('1')</script>"><img src=x onerror='a'> {{ 7 * 7 }} & "quotes\""""


class Tags(HTMLParser):
    """The names of a page's tags, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def report_of(folder: Path, prompt: str, *verdicts: Verdict, card: Scorecard = CARD) -> Report:
    """The report of a run whose attempts ended with `verdicts`; kept ones were delivered."""
    with Store.open(folder) as store:
        run = store.begin_run("generate", {})
        renders = [store.add_render(a_render(seed, prompt=prompt)) for seed in range(len(verdicts))]
        for render, verdict in zip(renders, verdicts, strict=True):
            store.add_scorecard(render.id, "gate", card, verdict)
            if verdict.outcome == "keep":
                deliver(store, run, render.id, folder / f"mira-{render.id}.png", True)
    with Record(folder) as record:
        rows = tuple(record.attempt(render.id, "gate") for render in renders)
    return Report(
        "asked",
        folder,
        "mira",
        (rows[0].render.image,),
        rows,
        Gate((), {}, joint=CohortRate("mini", 300, 2, 0.007, 0.02)),
    )


def training(folder: Path, text: str) -> str:
    path = folder / "a.png"
    Image.new("RGB", (32, 32), "red").save(path)
    samples = tuple(SamplesAt(step, (path,), {f"identity {text}": 0.5, text: None}) for step in (1, 2))
    report = TrainingReport(
        text, text, ((1, 0.5), (2, 0.4)), samples, (text,), (Learned(path, text),), ((text, text),), 2
    )
    return training_page(report)


def test_a_hostile_text_is_shown_and_never_run(tmp_path: Path) -> None:
    card = Scorecard((*CARD.scores, Score("defect", HOSTILE, 1.0, 0.5, passed=False, reason=HOSTILE)))
    report = report_of(tmp_path / "s", HOSTILE, Verdict("reject", (HOSTILE,)), card=card)
    for page in (run_page(replace(report, character=HOSTILE)), training(tmp_path, HOSTILE)):
        tags = Tags(page)
        assert not {"script", "link", "iframe"} & set(tags.found)
        assert not any(name.startswith("on") for name, _ in tags.attributes)
        assert {(value or "")[:11] for name, value in tags.attributes if name == "src"} == {"data:image/"}
        assert "<script" not in page
        assert tags.words.count(HOSTILE) >= 4
    assert HOSTILE in [value for name, value in Tags(run_page(report)).attributes if name == "alt"]


def test_a_page_fetches_nothing(tmp_path: Path) -> None:
    report = report_of(tmp_path / "s", "smiling", Verdict("keep", ()))
    for page in (run_page(report), training(tmp_path, "smiling")):
        assert not re.search(r"https?:|url\(|@import|<script|<link", page)


def test_the_page_of_a_run_shows_what_was_kept_first_and_why_the_rest_was_not(tmp_path: Path) -> None:
    report = report_of(tmp_path / "s", "smiling", Verdict("reject", ("no face was found",)), Verdict("keep", ()))
    words = " ".join(Tags(run_page(report)).words.split())
    assert words.startswith("mira by Sosie")
    assert "1 of 2 images kept: 50 % (95 % interval 9 to 91 %)." in words
    assert "The thresholds let 2 of 300 impostors of the cohort 'mini' pass" in words
    assert words.index("Kept: 1") < words.index("mira-2.png") < words.index("Not kept: 1") < words.index("no face was")
    for told in ("✓ 0.610", "≤ 0.400", "0.7 %", "not installed", "1 defect checks passed", "seed ", "attempt 1, 1.5 s"):
        assert told in words


def test_a_check_without_a_value_is_not_one_that_did_not_pass(tmp_path: Path) -> None:
    failed = Score("defect", "lines", 0.9, 0.5, passed=False, reason="stripes")
    untold = Score("defect", "text", None, 4.0, passed=None, reason="not installed")
    for name, scores, told in (
        ("a", (failed, untold), "1 of 3 defect checks did not pass, 1 said nothing"),
        ("b", (untold,), "1 of 2 defect checks passed, 1 said nothing"),
    ):
        report = report_of(tmp_path / name, "smiling", Verdict("keep", ()), card=Scorecard((*CARD.scores, *scores)))
        assert told in " ".join(Tags(run_page(report)).words.split())


def test_a_delivery_into_another_folder_is_not_named(tmp_path: Path) -> None:
    report = report_of(tmp_path / "s", "smiling", Verdict("keep", ()))
    assert report.name(report.rows[0]) == "mira-1.png"
    assert replace(report, out=tmp_path / "elsewhere").name(report.rows[0]) == ""


def test_a_report_is_written_whole_with_its_sheet(tmp_path: Path) -> None:
    report = report_of(tmp_path / "s", "smiling", Verdict("keep", ()))
    sheet, page = write_report(report, tmp_path)
    assert page.read_text(encoding="utf-8") == run_page(report)
    with Image.open(sheet) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("count", [1, 41, 90])
def test_of_very_many_steps_the_best_is_among_the_samples_shown(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    samples = tuple(SamplesAt(step, (path,), {}) for step in range(1, count + 1))
    page = training_page(TrainingReport("x", "y", (), samples, ("p",), (), (), count))
    assert 1 <= page.count(f'alt="step {count}"') == page.count('class="best"')
    assert page.count('alt="step ') <= 41
    assert "Training set: 0 images" in page
    assert "Curves" not in page


def test_a_report_takes_the_place_of_its_own_and_of_nobody_elses(tmp_path: Path) -> None:
    report, folder = report_of(tmp_path / "s", "smiling", KEEP), tmp_path / "out"
    other = replace(report, asked="another")
    assert write_report(report, folder) == (folder / "contact-sheet.png", folder / "index.html")
    assert write_report(other, folder) == (folder / "contact-sheet-another.png", folder / "index-another.html")
    assert write_report(report, folder)[1].name == "index.html"
    assert len(list(folder.iterdir())) == 4
    (folder / "index.html").write_text("mine")
    sheet, page = write_report(report, folder)
    assert (sheet.name, page.name) == ("contact-sheet.png", "index-asked.html")
    assert (folder / "index.html").read_text() == "mine"
    page.write_text("mine too")
    with pytest.raises(DeliveryError, match="File exists"):
        write_report(report, folder)
    assert page.read_text() == "mine too"
