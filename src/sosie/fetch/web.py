"""HTTP for downloads: redirects step by step, tokens for their own hosts only, patience with bad lines.

A token is sent to the host that it belongs to and to no other, whatever a redirect says, and only by
https (or to this machine). No message holds a token or the query of an address, where signatures stand.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from sosie import __version__
from sosie.core.errors import UsageError
from sosie.core.finding import Rule
from sosie.fetch.exchange import TLS_HINT, Exchange, LateError, Line, tls_trouble
from sosie.fetch.hubs import LOCAL, OWN, PUBLIC, Hubs, origin, shown, zone
from sosie.fetch.retries import N001, BrokenOffError, DownloadError, Retries, RetryPolicy
from sosie.files.foreign import parse_json

if TYPE_CHECKING:
    import httpx2

N002 = Rule("SOS-N002", "error", "A server wants to know who asks")
N003 = Rule("SOS-N003", "error", "A server sent something else than the file")
N004 = Rule("SOS-N004", "error", "A source has no such file")

T = TypeVar("T")

MAX_HOPS = 8
MAX_JSON = 16_000_000
"""Bytes of the longest answer that is read as JSON; the longest model pages of CivitAI have about 1 MB."""


class WebResponse:
    """What a server answered: status, headers (names in lower case) and, once, the body."""

    def __init__(self, exchange: Exchange, patience: RetryPolicy) -> None:
        response = exchange.response
        self._exchange = exchange
        self._patience = patience
        self.status = response.status_code
        self.url = str(response.url)
        self.headers: Mapping[str, str] = response.headers

    @property
    def host(self) -> str:
        """The server that answered."""
        return urlsplit(self.url).hostname or ""

    @property
    def length(self) -> int | None:
        """The declared length of the body in bytes."""
        text = self.headers.get("content-length", "")
        return int(text) if re.fullmatch(r"\d{1,18}", text) else None

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes over the line, undecoded; raises `BrokenOffError` when it breaks off or crawls."""
        import httpx2

        patience, since, count = self._patience, time.monotonic(), 0
        try:
            for piece in self._exchange.pieces(patience.stall, each=True):
                count += len(piece)
                spent = time.monotonic() - since
                if spent >= patience.stall:
                    if count < patience.rate * spent:
                        raise BrokenOffError(f"only {count:,} bytes came in {spent:,.0f} s")
                    since, count = since + spent, 0
                yield piece
        except (LateError, httpx2.HTTPError) as error:
            raise BrokenOffError(_why(error)) from None

    def whole(self, limit: int) -> bytes:
        """The body, or the beginning of one that is longer than `limit` bytes; raises `BrokenOffError`."""
        import httpx2

        found = bytearray()
        try:
            for piece in self._exchange.pieces(self._patience.stall):
                found += piece
                if len(found) > limit:
                    break
        except (LateError, httpx2.HTTPError) as error:
            raise BrokenOffError(_why(error)) from None
        return bytes(found)

    def start(self, limit: int) -> bytes:
        """At most the first `limit` bytes of the body, or as many as come before it breaks off."""
        found = bytearray()
        with suppress(BrokenOffError):
            for chunk in self.chunks():
                found += chunk
                if len(found) >= limit:
                    break
        return bytes(found[:limit])


class Web:
    """A client for downloads. A context manager; closes its connections at the end.

    `notice` is told, in a sentence, why and for how long it waits.
    """

    def __init__(
        self, hubs: Hubs, patience: RetryPolicy | None = None, notice: Callable[[str], None] = lambda _: None
    ) -> None:
        import httpx2

        self.hubs = hubs
        self.patience = patience or RetryPolicy()
        self.notice = notice
        self._line = Line(
            httpx2.Client(
                headers={"User-Agent": f"sosie/{__version__}", "Accept-Encoding": "identity"},
                timeout=httpx2.Timeout(self.patience.stall, connect=min(15.0, self.patience.stall)),
            )
        )
        self._zones: dict[tuple[str, str, int | None], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    @contextmanager
    def ask(
        self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None, same_host: bool = False
    ) -> Generator[WebResponse]:
        """One request, redirects followed; with `same_host` a redirect to another host is the answer.

        Raises `BrokenOffError` for what may pass (no connection, 408, 429, 5xx), `DownloadError` for a
        refusal (other 4xx but 416, a login page) and for redirects in circles or from https to http.
        """
        import httpx2

        nearest = PUBLIC
        for hop in range(MAX_HOPS):
            try:
                with self._exchange(url, method, headers, nearest if hop else None) as exchange:
                    following = self._redirect(exchange.response)
                    if not following or (same_host and origin(following) != origin(url)):
                        answer = WebResponse(exchange, self.patience)
                        self._check_status(answer)
                        yield answer
                        return
            except (LateError, httpx2.HTTPError) as error:
                raise BrokenOffError(f"{urlsplit(url).hostname}: {_why(error)}") from None
            if not hop:
                nearest = self._zones.get(origin(url), PUBLIC)
            url = following
        raise DownloadError(N001, f"{urlsplit(url).hostname} redirects more than {MAX_HOPS} times")

    @contextmanager
    def _exchange(
        self, url: str, method: str, headers: Mapping[str, str] | None, nearest: int | None
    ) -> Generator[Exchange]:
        """One request. A redirect must not lead to a machine that is nearer than the zone `nearest`."""
        import httpx2

        def check(found: int) -> None:
            if nearest is not None and found > nearest:
                where = "this machine" if found == OWN else "a machine of this network"
                message = f"a redirect leads to {shown(url)}, on {where}, and is not followed"
                raise DownloadError(N001, message, "check the source: no publisher keeps its files there")

        def peer(host: str, address: str) -> None:
            # Where a proxy answers, which host it reaches is its own business.
            if host.strip("[]") == urlsplit(url).hostname:
                self._zones[origin(url)] = zone(address)
                check(zone(address))

        check(self._zones.get(origin(url), PUBLIC))
        sent = {**(headers or {}), **self._authorisation(url)}
        try:
            with self._line.exchange(method, url, self.patience.answer, peer, headers=sent) as exchange:
                yield exchange
        except httpx2.ConnectError as error:
            if why := tls_trouble(error):
                message = f"{urlsplit(url).hostname} cannot be trusted: {why}"
                raise DownloadError(N001, message, TLS_HINT) from None
            raise

    def json(self, url: str, missing: Any = None) -> Any:
        """The JSON that `url` answers, tried again with patience; `missing` where it answers 404.

        Raises `DownloadError` for everything else that is not JSON.
        """

        def read() -> Any:
            with self.ask(url) as answer:
                text = answer.whole(MAX_JSON)
            try:
                return parse_json(text)
            except ValueError:
                message = f"{shown(url)} answered {described(text, answer)} in place of JSON"
                raise DownloadError(N003, message, "try again later, or check the endpoint") from None

        try:
            return self.retry(shown(url), read)
        except NotThereError:
            return missing

    def retry(self, what: str, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, tried again while it raises `BrokenOffError`.

        Raises `DownloadError` (SOS-N001) when patience ends.
        """
        retries = Retries(what, self.patience, self.notice)
        while True:
            try:
                return attempt()
            except BrokenOffError as error:
                retries.wait(error)

    def _authorisation(self, url: str) -> dict[str, str]:
        name, token = self.hubs.token(url)
        if not token:
            return {}
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOCAL:
            raise UsageError(
                f"{name} is not sent to {parts.hostname} by {parts.scheme}: anybody on the way could read it",
                f"give its endpoint with https, or unset {name}",
            )
        return {"Authorization": f"Bearer {token}"}

    def _redirect(self, response: httpx2.Response) -> str:
        """Where a redirect leads, or empty for an answer that is none."""
        location = response.headers.get("location", "")
        if response.status_code not in (301, 302, 303, 307, 308) or not location:
            return ""
        import httpx2

        url = str(response.url)
        try:
            following = str(response.url.join(location))
            parts = urlsplit(following)
            parts.port  # noqa: B018 - raises for a port that is none
        except (httpx2.InvalidURL, ValueError):
            raise DownloadError(N001, f"{response.url.host} redirects to something that is no address") from None
        if parts.path.rstrip("/").endswith("/login"):
            raise self.refused(url, f"{response.url.host} asks to log in")
        if parts.scheme not in ("http", "https") or parts.username is not None:
            raise DownloadError(N001, f"{response.url.host} redirects to {shown(following)}, which is not fetched")
        if response.url.scheme == "https" and parts.scheme == "http":
            message = f"{response.url.host} redirects from https to http ({parts.hostname}), which anybody can change"
            raise DownloadError(N001, message, "take the file from another source")
        return following

    def _check_status(self, answer: WebResponse) -> None:
        status = answer.status
        if status < 400 or status == 416:
            return
        said = f"{answer.host} answered {status} for {shown(answer.url)}"
        # Hugging Face names the reason; it answers 401 also for what does not exist.
        reason = answer.headers.get("x-error-code", "")
        if reason in ("RepoNotFound", "EntryNotFound", "RevisionNotFound") and status == 404:
            raise NotThereError(f"{said} ({reason})")
        if status in (404, 410):
            raise NotThereError(said)
        if status == 401 and reason == "RepoNotFound":
            said = f"{said}: there is no such repository, or it is private"
        if status in (401, 403, 451):
            raise self.refused(answer.url, said, gated=reason == "GatedRepo")
        if status in (408, 425, 429) or status >= 500:
            raise BrokenOffError(said, retry_after(answer.headers.get("retry-after", "")))
        raise DownloadError(N001, said, "check the source")

    def refused(self, url: str, said: str, gated: bool = False) -> DownloadError:
        """The error for a server that wants to know who asks."""
        name, token = self.hubs.token(url)
        if not name:
            return DownloadError(N002, said, "get the file with a browser, then: sosie model fetch FILE")
        where = {"HF_TOKEN": "huggingface.co/settings/tokens", "CIVITAI_TOKEN": "civitai.com/user/account"}[name]
        agree = "agree to the terms on its page, then " if gated else ""
        if token:
            return DownloadError(
                N002, f"{said}, though {name} was sent", f"{agree}check that the token may read it: {where}"
            )
        return DownloadError(N002, f"{said}; {name} is not set", f"{agree}export {name}=... from {where}")


class NotThereError(DownloadError):
    """The server says that there is no such thing."""

    def __init__(self, said: str) -> None:
        super().__init__(N004, said, "check the source's spelling on its page")


def retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if re.fullmatch(r"\d{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def described(start: bytes, answer: WebResponse) -> str:
    """What a body that was not expected is, for people: a web page by its title, or its first characters."""
    page = re.search(rb"<title[^>]*>(.*?)</title>", start, re.IGNORECASE | re.DOTALL)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if page or is_page(start) or kind in ("text/html", "application/xhtml+xml"):
        return f"a web page ('{_plain(page[1] if page else b'no title')}')"
    return f"{kind or 'something'} that begins with '{_plain(start)}'" if start else "nothing"


def is_page(start: bytes) -> bool:
    """Whether a body begins as HTML does."""
    return re.match(rb"\s*(<!doctype\s+html|<html|<head|<\?xml[^>]*>\s*<html)", start[:512], re.IGNORECASE) is not None


def _plain(text: bytes) -> str:
    words = " ".join(text[:400].decode("utf-8", "replace").split())
    return "".join(letter for letter in words if letter.isprintable())[:80]


def _why(error: Exception) -> str:
    """A sentence for an error of the line; only its kind, since its text may quote what was sent."""
    import httpx2

    if isinstance(error, LateError):
        return "it sends next to nothing"
    if isinstance(error, httpx2.TimeoutException):
        return "nothing came in time"
    if isinstance(error, httpx2.ConnectError):
        return f"no connection ({_plain(str(error).encode())})"
    if isinstance(error, httpx2.LocalProtocolError):
        return "the request could not be sent"
    return "the connection broke off"
