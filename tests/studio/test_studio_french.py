"""What the library says is French on the French page: each code, progress, reason, and error of its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from string import ascii_lowercase

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

import said_texts
from renders import CARD
from rules import codes_in
from studio_page import Studio

from sosie.api.jobs.queue import add_job, open_jobs
from sosie.core import Verdict
from sosie.store import Store
from sosie.studio.spoken import _findings, _read, beside, in_french

TEXTS = {section: texts for section, texts in _read("texts").items() if section not in ("parts", "http")}


def test_every_finding_says_what_happened_and_the_way_out_in_french_and_none_is_of_a_rule_that_went() -> None:
    assert {f"SOS-{code}" for code in _findings()} == codes_in()
    for code, (what, way_out) in _findings().items():
        assert re.fullmatch(r"[A-ZÀÉÊ].*[^.]", what), code
        assert len(way_out) > 10, code


@pytest.mark.parametrize(
    ("section", "said"),
    [("progress", said_texts.progress), ("reasons", said_texts.reasons), ("errors", said_texts.errors)],
)
def test_every_text_that_the_source_can_say_has_its_french_and_no_other_has(
    section: str, said: Callable[[], set[str]]
) -> None:
    known = {text for texts in TEXTS.values() for text in texts}
    assert said() - known == set(), "a new text, or one that changed: put it into studio/french/texts.toml"
    every = said_texts.progress() | said_texts.reasons() | said_texts.errors()
    assert set(TEXTS[section]) - every == set(), "the source does not say this any more"


def test_the_phrases_of_http_are_french() -> None:
    assert set(_read("texts")["http"]) <= {status.phrase for status in HTTPStatus}
    assert in_french(HTTPStatus.NOT_FOUND.phrase)


def test_texts_that_stand_in_others_are_in_the_source() -> None:
    assert [part for part in _read("texts")["parts"] if not said_texts.is_quoted(part)] == []


def test_a_french_text_has_the_values_of_the_english_one_in_their_places() -> None:
    for texts in TEXTS.values():
        for text, french in texts.items():
            values = [f"{letter}{letter}7" for letter in ascii_lowercase[: text.count("{}")]]
            said = in_french(text.replace("{}", "%s") % tuple(values)) if "%" not in text else None
            expected = re.sub(r"\{(\d+)(?::t)?\}", lambda hole, all_=values: all_[int(hole[1])], french)
            assert said in (None, expected), text


def test_texts_in_texts_are_translated_and_what_has_no_french_stays_as_it_is() -> None:
    assert in_french("3 of 24, picture 5: loading the model") == "3 sur 24, image 5 : chargement du modèle"
    assert in_french("no judge could judge identity: dlib: x is not installed") == (
        "aucun juge n'a pu juger l'identité : dlib : x n'est pas installé"
    )
    assert in_french("ana: no face was found") == "ana : aucun visage n'a été trouvé"
    assert in_french("the image is black and nothing else") == "l'image est noire et rien d'autre"
    assert in_french("a text of nobody") == ""
    assert in_french("step 1 of 2" * 400) == ""
    assert beside({"reasons": ["no face was found", "odd"]})["fr"] == {
        "reasons": ["aucun visage n'a été trouvé", "odd"]
    }


def test_a_finding_keeps_names_numbers_and_commands_and_its_own_words(studio: Studio) -> None:
    (one,) = beside([{"code": "SOS-L003", "severity": "error", "subject": "x", "message": "none of 480 match 'b'",
                      "hint": "sosie lora show FILE says which"}])  # fmt: skip
    assert one["message"] == "none of 480 match 'b'"
    assert one["fr"]["message"] == "Aucun tenseur du LoRA ne va à la base : 480, « b »."
    assert one["fr"]["hint"].endswith("(sosie lora show FILE says which)")
    checkups = studio.json("/api/doctor?suffix=toml", b"[nothing")["checkups"]
    findings = [finding for one in checkups for finding in one["findings"]]
    assert findings
    assert all(finding["fr"]["message"] and finding["fr"]["hint"] for finding in findings)


def test_jobs_and_verdicts_that_were_stored_in_english_are_told_in_french_too(studio: Studio) -> None:
    job = add_job(studio.desk.workspace, "generate", {"character": "mira"})
    with open_jobs(studio.desk.workspace) as jobs, jobs.working(job.id):
        jobs.progress(job.id, "step 3 of 20", (3, 20), None)
        (row,) = studio.json("/api/jobs")
        assert (row["what"], row["fr"]["what"]) == ("step 3 of 20", "pas 3 sur 20")
        jobs.end(job.id, "failed", "there is no job 7", "free some space")
    (row,) = studio.json("/api/jobs?every=true")
    assert (row["fr"]["message"], row["fr"]["hint"]) == ("il n'y a pas de travail 7", "libérez de la place")
    told = studio.json(f"/api/jobs/{job.id}/events")[-1]["told"]
    assert told["fr"]["message"] == "il n'y a pas de travail 7"


def test_verdicts_of_the_store_have_their_reasons_in_french_beside_the_english_ones(studio: Studio) -> None:
    one = studio.stored[0]
    with Store.open(studio.root / ".sosie") as store:
        store.add_scorecard(
            one.id, "new gate", CARD, Verdict("reject", ("no face was found", "sface 0.1 is below 0.4"))
        )
    image = studio.json(f"/api/images/{one.sha256}")
    assert image["reasons"] == ["no face was found", "sface 0.1 is below 0.4"]
    assert image["fr"]["reasons"] == ["aucun visage n'a été trouvé", "sface 0.1 est au-dessous de 0.4"]


def test_an_error_of_a_route_is_told_in_both_languages(studio: Studio) -> None:
    answer = studio.get("/api/characters/nobody")
    told = json.loads(answer.text)
    assert answer.status == 404
    assert told["error"].startswith("character 'nobody' does not exist")
    assert told["fr"]["error"].startswith("le personnage « nobody » n'existe pas")
