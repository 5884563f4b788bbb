"""The page as it is served: on a real socket, by uvicorn, and in a real browser on a phone and by keyboard."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, NEEDS_CHROMIUM, QUIET

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[panel]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'sosie[panel]'")

import uvicorn

from sosie.core.errors import UsageError
from sosie.panels.folder import PanelFolder
from sosie.servers.pages.guard import Guard
from sosie.servers.pages.key import Key
from sosie.servers.pages.panel.app import panel_app, shell
from sosie.servers.pages.panel.ballot import Ballot
from sosie.servers.pages.serving import Listening, address_of, bound, doors, serve

pytestmark = pytest.mark.once


@pytest.fixture
def address(folder: PanelFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a page that is served by a thread."""
    servers: list[Any] = []
    build = uvicorn.Server

    def kept(config: Any) -> Any:
        servers.append(build(config))
        return servers[0]

    monkeypatch.setattr(uvicorn, "Server", kept)
    listening = Listening()
    listener = bound(listening)
    own = doors(listening, listener.getsockname()[1], frozenset(shell()), Key())
    app = Guard(panel_app(Ballot(folder)), own)
    ready = threading.Event()
    thread = threading.Thread(target=serve, args=(app, listener, ready.set))
    thread.start()
    ready.wait(10)
    yield address_of(own)
    servers[0].should_exit = True
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


def test_a_foreign_host_is_refused_on_the_socket_itself_and_no_server_is_named(address: str) -> None:
    host = address.removeprefix("http://").partition("/")[0]
    statuses = []
    for name in (host, "evil.example", host.replace("127.0.0.1", "localhost")):
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/", headers={"host": name})
        answer = connection.getresponse()
        statuses.append(answer.status)
        assert answer.getheader("server") is None
        assert "default-src 'none'" in answer.getheader("content-security-policy", "")
        connection.close()
    assert statuses == [200, 421, 200]


def test_only_this_machine_is_listened_to_unless_it_is_asked_for() -> None:
    with bound(Listening()) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    for address in ("0.0.0.0", "::"):
        with pytest.raises(UsageError, match="every address"):
            bound(Listening(address))
    with pytest.raises(UsageError, match="not an IP address"):
        bound(Listening("studio.local"))
    with pytest.raises(UsageError, match="not a host's name"):
        bound(Listening(names=("evil.example/",)))
    with bound(Listening()) as taken, pytest.raises(UsageError, match="cannot listen"):
        bound(Listening(port=taken.getsockname()[1]))


def test_the_names_that_are_let_in_are_those_that_were_asked_for() -> None:
    key = Key()
    assert doors(Listening(), 80, frozenset(), key).hosts[:3] == ("127.0.0.1:80", "localhost:80", "[::1]:80")
    assert "127.0.0.1" in doors(Listening(), 80, frozenset(), key).hosts
    assert doors(Listening("192.168.1.5"), 8000, frozenset(), key).hosts == ("192.168.1.5:8000",)
    wide = doors(Listening("0.0.0.0", names=("Studio.local",)), 8000, frozenset(), key)
    assert wide.hosts == ("studio.local:8000",)
    assert address_of(wide) == f"http://studio.local:8000/#{key.secret}"


@pytest.mark.browser
@NEEDS_CHROMIUM
def test_a_person_votes_on_a_phone_and_by_keyboard(address: str, folder: PanelFolder, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        phone = {"width": 390, "height": 844}
        context = browser.new_context(viewport=phone, locale="fr-FR", color_scheme="dark", reduced_motion="reduce")
        page = context.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        api.expect(page.get_by_role("heading")).to_have_text(
            "Laquelle des deux ressemble le plus à la personne ci-dessus ?"
        )
        assert "#" not in page.url
        page.keyboard.press("Enter")  # the button to start has the focus
        api.expect(page.locator("#count")).to_have_text("1 sur 10")
        for place, key in enumerate(["ArrowLeft", "ArrowDown", "ArrowRight"]):
            api.expect(page.locator("#count")).to_have_text(f"{place + 1} sur 10")
            api.expect(page.get_by_role("button", name="Gauche", exact=False).last).to_be_enabled()
            page.keyboard.press(key)
        api.expect(page.locator("#count")).to_have_text("4 sur 10")
        api.expect(page.locator("[data-choice=left]")).to_be_enabled()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.reload()
        api.expect(page.locator("#count")).to_have_text("4 sur 10")
        page.get_by_role("button", name="English").click()
        api.expect(page.locator("#count")).to_have_text("4 of 10")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 24)"
        assert said == []
        browser.close()
    assert [vote.choice for vote in folder.votes.read()] == ["left", "neither", "right"]
