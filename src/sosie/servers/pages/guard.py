"""The guard of a served page: an ASGI middleware that stands before all routes, websockets and streams among them.

A web page that somebody has open in another tab can send requests to this machine, and by DNS rebinding even under a
name of its own (CVE-2025-59159 of SillyTavern, CVE-2025-62593 of Ray). So a request is answered only if

1. its `Host` is one of those that were allowed when the server was started (else 421);
2. it does not come from another site: `Sec-Fetch-Site`, and for what writes an `Origin` that is this one (else 403);
3. it brings the key: a cookie to read, a header beside it to write (else 401). Only the shell of the page is open,
   the files that are the same for everybody and hold no data.

Every answer, refusals too, forbids scripts, styles and pictures from elsewhere, and to be framed; none allows another
origin anything. Sources: https://www.w3.org/TR/CSP3/, https://fetch.spec.whatwg.org/#origin-header,
https://www.w3.org/TR/fetch-metadata/.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any

from sosie.servers.pages.key import Key, same

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION = "/session"
"""Where the key is handed over (POST), and where the page asks for its header after a reload (GET)."""

TOKEN = "x-sosie-token"  # noqa: S105 - the name of the header, not the secret

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

DOCUMENT = (
    "sandbox allow-same-origin allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The policy that an application may give in place of the page's own: that of a document with a style and no script."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer; `cache-control: no-store` too, where the page says nothing else."""

READING = ("GET", "HEAD")
LARGEST_BODY = 1 << 16


@dataclass(frozen=True)
class Doors:
    """What a guard lets in: `hosts` as browsers send them (`127.0.0.1:8765`), `shell` the paths that need no key.

    No body may be larger than `largest` bytes; `larger` says how large those of some paths may be.
    """

    hosts: tuple[str, ...]
    shell: frozenset[str]
    key: Key = field(default_factory=Key)
    largest: int = LARGEST_BODY
    larger: tuple[tuple[str, int], ...] = ()

    @property
    def cookie_name(self) -> str:
        """Cookies are shared by all ports of a host: two pages must not take each other's away."""
        return f"sosie-{self.hosts[0].rpartition(':')[2]}"

    def largest_at(self, path: str) -> int:
        """Bytes that a body sent to this path may have."""
        return dict(self.larger).get(path, self.largest)


class RefusedError(Exception):
    """Why a request is not answered."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _TooLargeError(Exception):
    """A body went on after its largest size."""


class Guard:
    """The middleware: `Guard(app, doors)` is the application to be served."""

    def __init__(self, app: App, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, refuses or passes on one request; anything but HTTP and websockets goes by."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = _Request(scope)
        try:
            self._check(request)
        except RefusedError as refused:
            await _refuse(request, refused, send)
            return
        if request.path == SESSION and request.kind == "http":
            await self._session(request, send)
            return
        try:
            await self._app(_one_range(scope), _bounded(receive, self._doors.largest_at(request.path)), _guarded(send))
        except _TooLargeError:
            await _refuse(request, RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large"), send)

    def _check(self, request: _Request) -> None:
        """Raises `RefusedError`; nothing of the application has run before."""
        if len(request.all("host")) != 1 or request.one("host").lower() not in self._doors.hosts:
            raise RefusedError(HTTPStatus.MISDIRECTED_REQUEST, "this is not a name of this server")
        writes = request.kind == "websocket" or request.method not in READING
        _check_site(request, writes)
        if not _fits(request.one("content-length"), self._doors.largest_at(request.path)):
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        if request.path in self._doors.shell and not writes:
            return
        if request.path == SESSION and request.method == "POST":
            if not same(request.one(TOKEN), self._doors.key.secret):
                raise RefusedError(HTTPStatus.UNAUTHORIZED, "this is not the key of this page")
            return
        if not same(request.cookie(self._doors.cookie_name), self._doors.key.cookie):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "open the address that the command has printed")
        # A websocket cannot send a header; its Origin was compared, and the cookie is sent by this site alone.
        if writes and request.kind == "http" and not same(request.one(TOKEN), self._doors.key.header):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "open the address that the command has printed")

    async def _session(self, request: _Request, send: Send) -> None:
        """Gives the browser its cookie, and the page its header."""
        doors = self._doors
        cookie = f"{doors.cookie_name}={doors.key.cookie}; HttpOnly; SameSite=Strict; Path=/"
        extra = [(b"set-cookie", cookie.encode())] if request.method == "POST" else []
        await _answer(HTTPStatus.OK, doors.key.header, _guarded(send), extra)


class _Request:
    """What the guard reads of an ASGI scope."""

    def __init__(self, scope: Scope) -> None:
        self.kind: str = scope["type"]
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["path"]
        self.scheme: str = str(scope["scheme"]).replace("ws", "http")
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value.decode("latin-1") for key, value in self._headers if key.decode("latin-1").lower() == name]

    def one(self, name: str) -> str:
        """The only value of a header; empty if there is none, or more than one."""
        found = self.all(name)
        return found[0] if len(found) == 1 else ""

    def cookie(self, name: str) -> str:
        """The value of a cookie, or empty."""
        try:
            found = SimpleCookie(self.one("cookie")).get(name)
        except CookieError:
            return ""
        return found.value if found is not None else ""


def _check_site(request: _Request, writes: bool) -> None:
    """Raises `RefusedError` for what another site's page has sent; a link that somebody follows may come from anywhere.

    Browsers send `Sec-Fetch-Site` to this machine itself and over TLS, and to other addresses only the `Origin`.
    """
    site = request.one("sec-fetch-site")
    followed = request.one("sec-fetch-mode") == "navigate" and not writes
    if site not in ("", "same-origin", "none") and not followed:
        raise RefusedError(HTTPStatus.FORBIDDEN, "another site may not ask for this")
    if writes and request.one("origin").lower() != f"{request.scheme}://{request.one('host').lower()}":
        raise RefusedError(HTTPStatus.FORBIDDEN, "only the page itself may change something")


def _fits(length: str, largest: int) -> bool:
    return not length or (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= largest)


def _one_range(scope: Scope) -> Scope:
    """The scope without a header that asks for many parts of a file at once, which costs far more than it is."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"range" or b"," not in value]
    return {**scope, "headers": headers}


def _bounded(receive: Receive, largest: int) -> Receive:
    """The body, up to its largest size, whatever its header said."""
    left = largest

    async def received() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLargeError
        return message

    return received


def _guarded(send: Send) -> Send:
    """Answers with the guard's headers in the place of the application's of the same names."""

    async def sent(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            message = {**message, "headers": _headers(message.get("headers", []))}
        await send(message)

    return sent


def _headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    default = {} if b"cache-control" in names else {"cache-control": "no-store"}
    if (b"content-security-policy", DOCUMENT.encode()) in given:
        default["content-security-policy"] = DOCUMENT
    own = {name.encode(): value.encode() for name, value in {**HEADERS, **default}.items()}
    kept = [
        (name, value)
        for name, value in given
        if name.lower() not in own and not name.lower().startswith(b"access-control-")
    ]
    return [*kept, *own.items()]


async def _refuse(request: _Request, refused: RefusedError, send: Send) -> None:
    if request.kind == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": str(refused)})
        return
    await _answer(refused.status, str(refused), _guarded(send), [])


async def _answer(status: HTTPStatus, text: str, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
