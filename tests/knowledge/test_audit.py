"""The audit: what it says comes from the record, in two languages, as a page, as Markdown and as JSON."""

from __future__ import annotations

import json
import re
import runpy
import string
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from experiments import result
from places import EXAMPLES, ROOT
from renders import CARD, KEEP, a_render

from sosie.api.knowledge.audit import write_audit
from sosie.api.knowledge.decisions import Choice, decide
from sosie.core import Verdict
from sosie.knowledge.book import Book
from sosie.knowledge.decision import Decision, Premise
from sosie.knowledge.rental import Rental
from sosie.knowledge.task import Task
from sosie.knowledge.trial import Trial
from sosie.reports.audit.words import LANGUAGES, words_of
from sosie.store.record import Record
from sosie.workspace.characters import CharacterFile, write_character
from sosie.workspace.experiments import save_design, save_result
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

Sosie = Callable[..., Any]
DAY = "2026-01-31"
HOSTILE = """</style><script>alert('1')</script>"><img src=x onerror='a'> {{ 7 * 7 }} | & "quotes\"\n# x"""


class Page(HTMLParser):
    """The headings of a page, its tags and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "h2":
            self.headings.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A workspace with a character, made without looking for faces."""
    who = CharacterFile("mira", "fictional", True, "a woman")
    root = tmp_path / "workspace"
    write_character(who, sorted(EXAMPLES.glob("*.jpg"))[:1], root / "characters" / "mira")
    with Session(open_workspace(root)) as opened:
        yield opened


def put(session: Session, *nouns: Any) -> None:
    with Book(session.store.folder) as book, book.together():
        for noun in nouns:
            book.add(noun)


def test_a_character_without_a_record_has_every_section_and_each_says_that_nothing_is_there(session: Session) -> None:
    made = write_audit(session, "mira")
    page = Page(made.html.read_text())
    assert len(page.headings) == 12
    assert [text.split(".")[0] for text in page.headings[2:]] == [str(number) for number in range(1, 11)]
    words = words_of("en")
    text = made.markdown.read_text()
    for name in ("works", "fails", "machines", "loras", "notes", "decisions", "files", "steps", "active", "tests"):
        assert words(f"{name}_empty") in text


def test_the_words_of_both_languages_have_the_same_keys_and_the_same_fields() -> None:
    fields = {
        language: {
            key: sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)
            for key, text in words_of(language).texts.items()
        }
        for language in LANGUAGES
    }
    assert fields["en"] == fields["fr"]
    assert words_of("fr").number(12345.678) == "12\u202f345,68"
    assert words_of("fr").money(0.145) == "0,145\u00a0$"
    assert words_of("en").money(0.08) == "$0.08"
    assert words_of("fr").day("2026-08-01") == "1 août 2026"
    assert words_of("fr").size(12_309_866_400) == "12,31\u00a0Go (11,46\u00a0Gio)"


def test_images_are_counted_by_their_newest_judgement_with_its_interval(session: Session) -> None:
    renders = [session.store.add_render(a_render(seed)) for seed in range(3)]
    for render, outcome in zip(renders, (KEEP, KEEP, Verdict("reject", ("x",))), strict=True):
        session.store.add_scorecard(render.id, "old", CARD, Verdict("reject", ("x",)))
        session.store.add_scorecard(render.id, "new", CARD, outcome)
    name = renders[0].plan.character.name
    with Record(session.store.folder) as record:
        assert record.kept(name) == ((renders[0].plan.recipe, 2, 3),)
        assert record.kept("nobody") == ()
    if name == "mira":
        (share,) = write_audit(session, "mira").audit.shares
        assert (share.low, share.high) == (pytest.approx(0.208, abs=1e-3), pytest.approx(0.939, abs=1e-3))


def test_steps_are_ranked_by_expected_gain_for_each_dollar_and_the_unestimated_come_last(session: Session) -> None:
    put(
        session,
        Task("slow and sure", DAY, "mira", gain=80.0, chance=60.0, hours=6.0, money=0.9),
        Task("nobody knows", DAY, "mira"),
        Task("quick", DAY, "mira", gain=40.0, chance=30.0, hours=0.5, money=0.08),
        Task("done already", DAY, "mira", state="done", gain=100.0, hours=0.0),
    )
    audit = write_audit(session, "mira").audit
    assert [one.noun.title for one in audit.steps] == ["quick", "slow and sure", "nobody knows"]
    dear = write_audit(session, "mira", hour=0.0).audit
    assert [one.noun.title for one in dear.steps] == ["quick", "slow and sure", "nobody knows"]
    assert dear.steps[1].noun.worth(0.0) == pytest.approx(48 / 0.9)


def test_money_is_summed_where_hours_are_known_and_said_to_be_unknown_where_not(session: Session) -> None:
    put(
        session,
        Rental("a", "RTX 3090", 0.15, DAY, DAY, "mira", hours=10.0),
        Rental("b", "RTX 4090", 0.30, DAY, "", "mira"),
    )
    made = write_audit(session, "mira")
    assert made.audit.spent == pytest.approx(1.5)
    text = made.markdown.read_text()
    assert "$1.50 were spent on 1 machines" in text
    assert "Of 1 machines the hours are not on record" in text
    assert text.index("## 9.") < text.index("RTX 4090", text.index("## 9."))


def test_a_doubted_decision_comes_first_and_the_command_exits_with_1(sosie: Sosie, session: Session) -> None:
    gone = Premise("model", "lost", "a" * 64)
    put(
        session,
        Decision("sound", DAY, "mira", "accepted", without_evidence="by eye"),
        Decision("shaky", DAY, "mira", "accepted", without_evidence="by eye", premises=(gone,)),
    )
    root = session.workspace.root
    done = sosie("audit", "mira", "--language", "fr", "--out", root / "audit", "--workspace", root)
    assert (done.code, "SOS-V003: D2 'shaky': model 'lost' is not there any more" in done.err) == (1, True)
    text = (root / "audit" / "audit.md").read_text()
    assert text.index("shaky") < text.index("sound")
    assert "le fichier du modèle «\u00a0lost\u00a0» est absent, il était aaaaaaaaaaaa" in text
    assert 'lang="fr"' in (root / "audit" / "audit.html").read_text()
    assert json.loads((root / "audit" / "audit.json").read_text())["decisions"][0]["status"] == "doubted"
    assert sosie("audit", "nobody", "--workspace", root).code == 2
    odd = sosie("audit", "mira", "--hour", "nan", "--workspace", root)
    assert (odd.code, "an hour for nan US dollars is not 0 to 1e+06" in odd.err) == (2, True)


def test_a_hostile_text_is_shown_and_never_run(session: Session) -> None:
    put(
        session,
        Trial(HOSTILE, HOSTILE, "fails", DAY, "mira", cause=HOSTILE),
        Rental(HOSTILE, HOSTILE, 1.0, DAY, "", "mira", address=HOSTILE, hours=1.0),
        Rental("x", "y", 1.0, DAY, "", "mira", hours=2.0),
    )
    made = write_audit(session, "mira")
    page = Page(made.html.read_text())
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    rows = [line for line in made.markdown.read_text().splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (5, 6, 7, 8, 10) for row in rows)
    assert "<script" not in made.markdown.read_text()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's two workspaces."""
    folder = tmp_path_factory.mktemp("elena")
    kept = sys.argv
    sys.argv = ["make.py", str(folder)]
    try:
        runpy.run_path(str(ROOT / "examples" / "elena-audit" / "make.py"), run_name="__main__")
    finally:
        sys.argv = kept
    return folder


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_audit_of_the_week_fills_summary_and_ten_sections(example: Path, language: str) -> None:
    folder = example / language / "audit"
    page = Page((folder / "audit.html").read_text())
    assert len(page.headings) == 12
    text = (folder / "audit.md").read_text()
    words = words_of(language)  # type: ignore[arg-type]
    assert [key for key, value in words.texts.items() if key.endswith("_empty") and value in text] == []
    assert "/tmp" not in text
    assert str(example) not in text
    assert not re.search(r"(?:src|href)=.(?!#)", (folder / "audit.html").read_text())


def test_the_audit_of_the_week_has_its_four_findings_corrected(example: Path) -> None:
    audit = json.loads((example / "en" / "audit" / "audit.json").read_text())
    files = {one["name"]: one for one in audit["files"]}
    packed = files["diffusion_models/z_image_full.safetensors"]
    assert {one["code"] for one in packed["findings"]} == {"SOS-F103"}
    assert 7.9 < packed["size"] / 2**30 < 8.0
    lora = files["loras/elena_zimage_v2.safetensors"]
    assert "480 of 480 tensors match" in next(one["message"] for one in lora["findings"] if one["code"] == "SOS-L005")
    tests = [one for one in audit["trials"] if one["series"]]
    assert "".join(one["component"] for one in tests) == "ABCDEFGH"
    for one in tests:
        assert "no siglip_* tensors" in next(f["message"] for f in one["findings"] if f["code"] == "SOS-R030")
    assert [one["value"] for one in audit["trials"] if one["value"] is not None] == [], "no eye gives a figure"
    causes = [run["end"]["cause"] for run in reversed(audit["trainings"])]
    assert causes == ["error", "loss", "loss", "finished", "finished"]
    assert [(one["gpu"], one["price"]) for one in audit["rentals"]] == [
        ("RTX 3090", 0.15),
        ("RTX 3090", 0.145),
        ("RTX 4090", 0.3),
        ("RTX 5090", 0.4),
    ]
    french = json.loads((example / "fr" / "audit" / "audit.json").read_text())
    for key in ("files", "trials", "rentals", "decisions", "notes", "tasks", "trainings"):
        assert len(french[key]) == len(audit[key]) > 0


def test_a_trial_that_was_tried_again_counts_by_its_newest(session: Session) -> None:
    first = Trial("FaceID", "x", "fails", "2026-01-30", "mira")
    put(session, first, replace(first, outcome="works", date=DAY))
    assert [one.noun.outcome for one in write_audit(session, "mira").audit.status] == ["works"]


def test_an_experiment_stands_in_it_with_its_contrasts_and_the_decision_with_its_interval(session: Session) -> None:
    made = result()
    save_design(session.workspace, made.id, {})
    save_result(session.workspace, made)
    decide(session, Choice("CFG 5", "mira", because="cfg"))
    text = write_audit(session, "mira").markdown.read_text()
    assert "| cfg=5 against cfg=4 | better | 0.1 (0.05 to 0.15) | 4 |" in text
    assert "| cfg=6 against cfg=4 | undecided | -0.2 (-1 to 0.6) | 4 |" in text
    assert f"cfg-0123abcd ({made.digest[:12]}), cfg=5 against cfg=4: better, 0.1 (0.05 to 0.15)" in text
