"""The guard of a served page: each line of its checklist."""

from __future__ import annotations

import pytest
from asgi import Answer, ask

from sosie.servers.pages.guard import HEADERS, TOKEN, App, Doors, Guard, Receive, Scope, Send
from sosie.servers.pages.key import Key

KEY = Key("secret of the test")
HOST = "127.0.0.1:8765"
DOORS = Doors((HOST, "localhost:8765"), frozenset({"/", "/static/panel.js"}), KEY, largest=100)
OURS = {"host": HOST, "cookie": f"sosie-8765={KEY.cookie}"}
WRITES = {**OURS, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin", TOKEN: KEY.header}


class Inside:
    """The application behind the guard: what reached it, and an answer that allows everybody everything."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope["path"])
        self.headers = scope["headers"]
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        more = True
        while more:
            message = await receive()
            self.body += message.get("body", b"")
            more = message.get("more_body", False)
        loose = [(b"access-control-allow-origin", b"*"), (b"Content-Security-Policy", b"default-src *")]
        await send({"type": "http.response.start", "status": 200, "headers": loose})
        await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def inside() -> Inside:
    return Inside()


@pytest.fixture
def guard(inside: Inside) -> App:
    return Guard(inside, DOORS)


def refused(answer: Answer, status: int, inside: Inside) -> None:
    assert answer.status == status
    assert inside.reached == []
    assert answer.headers.items() >= HEADERS.items()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", "", "[::1]:8765"],
)
def test_another_host_is_misdirected_before_anything_else(guard: App, inside: Inside, host: str) -> None:
    refused(ask(guard, "/data", headers={**OURS, "host": host}), 421, inside)
    refused(ask(guard, "/", headers={"host": host}), 421, inside)


def test_two_hosts_are_none(guard: App, inside: Inside) -> None:
    refused(ask(guard, headers=[("host", HOST), ("host", "evil.example")]), 421, inside)
    refused(ask(guard, headers=[]), 421, inside)


def test_the_host_of_a_websocket_is_looked_at_too(guard: App, inside: Inside) -> None:
    assert ask(guard, "/live", headers={**WRITES, "host": "evil.example:8765"}, kind="websocket").status == 1008
    assert inside.reached == []


def test_a_host_is_the_same_in_capitals(guard: App) -> None:
    assert ask(guard, "/", headers={"host": "LocalHost:8765"}).text == "inside"


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", f"https://{HOST}", "http://127.0.0.1:9999", f"http://{HOST}.evil.example", ""],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FETCH"])
def test_what_writes_needs_the_origin_of_the_page(guard: App, inside: Inside, method: str, origin: str) -> None:
    refused(ask(guard, "/votes", method, {**WRITES, "origin": origin}), 403, inside)


def test_what_writes_without_an_origin_is_refused(guard: App, inside: Inside) -> None:
    refused(ask(guard, "/votes", "POST", {k: v for k, v in WRITES.items() if k != "origin"}), 403, inside)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_another_site_can_neither_write_nor_embed(guard: App, inside: Inside, site: str) -> None:
    refused(ask(guard, "/votes", "POST", {**WRITES, "sec-fetch-site": site}), 403, inside)
    refused(ask(guard, "/image", headers={**OURS, "sec-fetch-site": site, "sec-fetch-mode": "no-cors"}), 403, inside)


def test_a_link_from_anywhere_may_be_followed_to_the_shell(guard: App) -> None:
    followed = {"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(guard, "/", headers=followed).status == 200


def test_a_websocket_needs_the_origin_and_the_cookie(guard: App, inside: Inside) -> None:
    for lacks in ("origin", "cookie"):
        few = {name: value for name, value in WRITES.items() if name != lacks}
        assert ask(guard, "/live", headers=few, kind="websocket").status == 1008
    assert ask(guard, "/live", headers={**WRITES, "origin": "null"}, kind="websocket").status == 1008
    assert inside.reached == []
    assert ask(guard, "/live", headers=WRITES, kind="websocket").status == 101


@pytest.mark.parametrize(
    "cookie", ["", "sosie-8765=", f"sosie-8765={KEY.header}", f"sosie-8765={KEY.secret}", "=;=\x80"]
)
def test_without_the_cookie_nothing_can_be_read(guard: App, inside: Inside, cookie: str) -> None:
    refused(ask(guard, "/data", headers={"host": HOST, "cookie": cookie}), 401, inside)


@pytest.mark.parametrize("token", ["", KEY.cookie, KEY.secret, "\xe9" * 64])
def test_the_cookie_alone_writes_nothing(guard: App, inside: Inside, token: str) -> None:
    refused(ask(guard, "/votes", "POST", {**WRITES, TOKEN: token}), 401, inside)


def test_the_header_alone_writes_nothing(guard: App, inside: Inside) -> None:
    refused(ask(guard, "/votes", "POST", {**WRITES, "cookie": ""}), 401, inside)


def test_the_shell_is_open_to_be_read_and_only_by_its_exact_path(guard: App, inside: Inside) -> None:
    assert ask(guard, "/static/panel.js", headers={"host": HOST}).status == 200
    inside.reached.clear()
    for path in ("/static/", "/static/panel.js/", "/static/../panel.json", "//", "/static/PANEL.js", "/static"):
        refused(ask(guard, path, headers={"host": HOST}), 401, inside)
    refused(ask(guard, "/", "POST", {"host": HOST, "origin": f"http://{HOST}"}), 401, inside)


def test_the_key_is_exchanged_for_a_cookie_that_scripts_cannot_read(guard: App, inside: Inside) -> None:
    given = {"host": HOST, "origin": f"http://{HOST}", TOKEN: KEY.secret}
    answer = ask(guard, "/session", "POST", given)
    assert (answer.status, answer.text) == (200, KEY.header)
    assert answer.headers["set-cookie"] == f"sosie-8765={KEY.cookie}; HttpOnly; SameSite=Strict; Path=/"
    assert answer.headers["cache-control"] == "no-store"
    assert KEY.secret not in answer.text + str(answer.headers)
    for wrong in ("", "another", KEY.cookie):
        refused(ask(guard, "/session", "POST", {**given, TOKEN: wrong}), 401, inside)
    refused(ask(guard, "/session", "POST", {**given, "origin": "http://evil.example"}), 403, inside)


def test_after_a_reload_the_page_gets_its_header_by_the_cookie(guard: App) -> None:
    assert ask(guard, "/session", headers=OURS).text == KEY.header
    assert ask(guard, "/session", headers={"host": HOST}).status == 401


def test_keys_are_of_256_bits_and_differ() -> None:
    keys = [Key() for _ in range(20)]
    assert len({text for key in keys for text in (key.secret, key.cookie, key.header)}) == 60
    assert all(len(key.secret) == 43 for key in keys)
    assert Key("x y").secret not in repr(Key("x y"))


def test_every_answer_has_the_headers_and_no_other_origin_is_allowed_anything(guard: App) -> None:
    answer = ask(guard, "/data", headers=OURS)
    assert answer.text == "inside"
    assert answer.headers.items() >= HEADERS.items()
    assert not [name for name in answer.headers if name.startswith("access-control")]
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "frame-ancestors 'none'" in policy


def test_a_body_is_bounded_by_what_it_says_and_by_what_it_is(guard: App, inside: Inside) -> None:
    refused(ask(guard, "/votes", "POST", {**WRITES, "content-length": "101"}), 413, inside)
    refused(ask(guard, "/votes", "POST", {**WRITES, "content-length": "-1"}), 413, inside)
    refused(ask(guard, "/votes", "POST", {**WRITES, "content-length": "9" * 30}), 413, inside)
    answer = ask(guard, "/votes", "POST", {**WRITES, "content-length": "5"}, body=[b"a" * 60, b"b" * 60, b"c" * 60])
    assert answer.status == 413
    assert len(inside.body) == 60
    assert ask(guard, "/votes", "POST", WRITES, body=[b"a" * 100]).status == 200


def test_many_ranges_are_not_passed_on(guard: App, inside: Inside) -> None:
    ask(guard, "/data", headers={**OURS, "range": "bytes=" + ",".join("0-1" for _ in range(1000))})
    assert b"range" not in dict(inside.headers)
    ask(guard, "/data", headers={**OURS, "range": "bytes=0-9"})
    assert dict(inside.headers)[b"range"] == b"bytes=0-9"
