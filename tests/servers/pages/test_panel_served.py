"""The voting page's routes: blind, in order, append-only, and deaf to everything else."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[panel]'")

from asgi import Answer, ask

from sosie.panels.folder import PanelFolder
from sosie.servers.pages.guard import TOKEN, App, Doors, Guard
from sosie.servers.pages.key import Key
from sosie.servers.pages.panel.app import panel_app, shell
from sosie.servers.pages.panel.ballot import MOST_CHANGES, Ballot

HOST = "127.0.0.1:8765"
KEY = Key("secret")
READ = {"host": HOST, "cookie": f"sosie-8765={KEY.cookie}"}
WRITE = {**READ, "origin": f"http://{HOST}", TOKEN: KEY.header, "content-type": "application/json"}
STATIC = Path(__file__).parents[3] / "src/sosie/servers/pages/panel/static"


@pytest.fixture
def page(folder: PanelFolder) -> App:
    return Guard(panel_app(Ballot(folder)), Doors((HOST,), frozenset(shell()), KEY))


def post(page: App, path: str, body: Any) -> Answer:
    return ask(page, path, "POST", WRITE, [body if isinstance(body, bytes) else json.dumps(body).encode()])


def begin(page: App) -> str:
    return json.loads(post(page, "/api/people", {}).text)["person"]


def vote(page: App, person: str, place: int, choice: str = "left") -> Answer:
    return post(page, f"/api/people/{person}/votes", {"place": place, "choice": choice, "milliseconds": 800})


def test_somebody_votes_on_every_pair_and_each_vote_is_in_the_file(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    total = len(folder.panel.pairs)
    for place in range(total):
        assert json.loads(ask(page, f"/api/people/{person}", headers=READ).text) == {"done": place, "pairs": total}
        for side in ("left", "right"):
            answer = ask(page, f"/api/people/{person}/images/{place}/{side}", headers=READ)
            assert answer.headers["content-type"] == "image/png"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.body.startswith(b"\x89PNG")
        assert vote(page, person, place, "neither").status == 200
    votes = folder.votes.last(folder.panel.id)[person]
    assert sorted(votes) == list(range(total))
    for pair, one in votes.items():
        assert {one.left, one.right} == {folder.panel.pairs[pair].a, folder.panel.pairs[pair].b}


def test_what_is_seen_left_is_what_the_vote_says_was_left(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    seen = ask(page, f"/api/people/{person}/images/0/left", headers=READ).body
    vote(page, person, 0)
    (one,) = folder.votes.read()
    assert folder.image(folder.panel.images[one.left].sha256) == seen
    assert one.chosen == one.left


def test_nothing_that_is_answered_tells_a_cell_a_block_a_digest_or_a_kind(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    answers = [ask(page, path, headers=READ) for path in ("/api/panel", f"/api/people/{person}")]
    answers += [vote(page, person, 0), vote(page, person, 7), ask(page, "/api/nothing", headers=READ)]
    said = " ".join(answer.text + json.dumps(answer.headers) for answer in answers)
    told = ["secret cell", "block 0", "identical", "repeat", *folder.panel.files, folder.panel.id, str(folder.path)]
    assert [word for word in told if word in said] == []


def test_the_same_image_on_both_sides_has_two_addresses(page: App, folder: PanelFolder) -> None:
    ballot = Ballot(folder)
    person = ballot.begin()
    place = next(n for n, shown in enumerate(ballot._orders[person]) if shown.left == shown.right)
    for earlier in range(place):
        ballot.vote(person, earlier, "left", 1)
    assert ballot.image(person, place, "left") == ballot.image(person, place, "right")


def test_pairs_come_one_by_one_and_an_earlier_vote_may_be_changed(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    assert vote(page, person, 1).status == 409
    assert ask(page, f"/api/people/{person}/images/2/left", headers=READ).status == 404
    assert vote(page, person, 0, "left").status == 200
    assert vote(page, person, 0, "right").status == 200
    assert [one.choice for one in folder.votes.read()] == ["left", "right"]
    assert json.loads(ask(page, f"/api/people/{person}", headers=READ).text)["done"] == 1


def test_a_restart_forgets_nobody(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    vote(page, person, 0)
    again = Ballot(folder)
    assert again.standing(person).done == 1
    assert again._orders[person] == Ballot(folder)._orders[person]


def test_who_changes_their_mind_without_end_is_stopped(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    statuses = [vote(page, person, 0).status for _ in range(MOST_CHANGES * len(folder.panel.pairs) + 2)]
    assert statuses.count(409) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"null", b"\xff", {}, {"place": 0, "choice": "both", "milliseconds": 1},
        {"place": "0", "choice": "left", "milliseconds": 1}, {"place": -1, "choice": "left", "milliseconds": 1},
        {"place": 0, "choice": "left", "milliseconds": 1e99}, {"place": 0, "choice": "left", "milliseconds": True},
        {"place": 0, "choice": "left", "milliseconds": 1, "name": "somebody"},
    ],
)  # fmt: skip
def test_a_vote_that_is_none_is_refused_in_a_few_words(page: App, folder: PanelFolder, body: Any) -> None:
    answer = post(page, f"/api/people/{begin(page)}/votes", body)
    assert answer.status in (400, 422)
    assert answer.text in ("this is not what the page sends", "Bad Request")
    assert folder.votes.read() == ()


ODD = [
    "../panel.json", "..%2fpanel.json", "%2e%2e/panel.json", "/etc/passwd", "//host/share", "\\\\host\\share", "C:\\x",
    "\0", "a" * 5000, "\u202e\u00e9\U0001f600", "votes.jsonl", "-1", "1e9", "99999999999999999999", "0/left/../../x",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_no_path_from_a_request_leads_anywhere(page: App, folder: PanelFolder, odd: str) -> None:
    person = begin(page)
    (folder.path / "link").symlink_to("/etc")
    for path in (f"/{odd}", f"/static/{odd}", f"/api/references/{odd}", f"/api/people/{odd}",
                 f"/api/people/{person}/images/{odd}/left", f"/api/people/{person}/images/0/{odd}"):  # fmt: skip
        answer = ask(page, path, headers=READ)
        assert answer.status in (401, 404, 405, 422), path
        assert len(answer.body) < 200
        assert str(folder.path) not in answer.text


def test_a_person_who_never_began_has_no_pairs(page: App) -> None:
    assert vote(page, "0" * 16, 0).status == 404
    assert ask(page, "/api/people/" + "0" * 16, headers=READ).status == 404


def test_a_lost_image_and_a_full_disk_are_said_without_a_path(page: App, folder: PanelFolder) -> None:
    person = begin(page)
    for file in (folder.path / "images").rglob("*.png"):
        file.unlink()
    answer = ask(page, f"/api/people/{person}/images/0/left", headers=READ)
    assert (answer.status, answer.text) == (507, "the vote could not be stored, or the image is gone")


def test_the_page_documents_itself_to_nobody(page: App) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert ask(page, path, headers=READ).status == 404


def test_both_languages_have_the_same_words_and_all_that_the_page_uses() -> None:
    english, french = (json.loads((STATIC / f"{name}.json").read_text(encoding="utf-8")) for name in ("en", "fr"))
    assert english.keys() == french.keys()
    assert {key: set(re.findall(r"\{\w+\}", text)) for key, text in english.items()} == {
        key: set(re.findall(r"\{\w+\}", text)) for key, text in french.items()
    }
    used = set(re.findall(r'data-(?:text|label)="([^"]+)"', (STATIC / "index.html").read_text(encoding="utf-8")))
    used |= set(re.findall(r'trouble\("(\w+)"\)', (STATIC / "panel.js").read_text(encoding="utf-8")))
    assert used <= english.keys()
    assert {"likeness", "skin", "image"} <= english.keys()


def test_the_page_has_no_inline_code_and_makes_no_html_of_data() -> None:
    html, script = ((STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "panel.js"))
    assert not re.search(r"<script>|<style|\son\w+=|style=|javascript:", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|https?:", script)


def test_the_page_is_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < 40_000


LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#\w+)", block))
    for block in re.findall(r":root \{(.*?)\}", (STATIC / "panel.css").read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"), [("ink", "paper"), ("faint", "paper"), ("accent", "paper"), ("on", "accent")]
)
def test_every_text_stands_out_from_its_ground_as_wcag_asks(scheme: dict[str, str], ink: str, ground: str) -> None:
    bright, dim = sorted((luminance(scheme[ink]), luminance(scheme[ground])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    digits = colour.lstrip("#")
    digits = "".join(letter * 2 for letter in digits) if len(digits) == 3 else digits
    assert set(digits) <= set(string.hexdigits)
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
