"""A provider's JSON interface: one request is sent once, and what its answer means for money is told apart.

The key goes into a header of requests to the provider's own address, by https or to this machine; redirects are not
followed. No error repeats what a server sent but for the fields that it names as its reason, with the key taken out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from sosie import __version__
from sosie.core.errors import ConfigError, SosieError
from sosie.fetch.hubs import LOCAL
from sosie.files.foreign import object_or_none, parse_json
from sosie.machines.ssh.trouble import plain
from sosie.pods.providers.pace import LONGEST_WAIT, Pace, used_up_for

MOST = 32 << 20
"""Bytes of an answer: 500 offers have about 2 MB."""

SECONDS = 60.0
"""For a whole answer: a creation may take half a minute."""

TRIES = 5


class ProviderError(SosieError):
    """A provider did not do what was asked, surely."""

    def __init__(self, message: str, hint: str = "", status: int = 0, kind: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        self.kind = kind
        self.table: Mapping[str, Any] = {}
        """What the provider answered beside it, if that was an object."""


class UnclearError(ProviderError):
    """Nobody knows whether a provider did what was asked: the line broke, or a server between gave up."""


class BusyError(ProviderError):
    """A provider wants to be asked later: nothing was done. `wait` is in seconds."""

    wait = 2.0


@dataclass(frozen=True)
class Ask:
    """One request: its method and path, what it sends as JSON, and the query."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] | None = None


class Client:
    """`url` is the provider's address; `key` is shown nowhere. `sleep` is for tests. `pace` waits before requests."""

    def __init__(
        self, name: str, url: str, key: str, sleep: Callable[[float], None] = time.sleep, pace: Pace | None = None
    ) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise ConfigError(f"the address of '{name}' is none", "expected one such as https://console.example")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL):
            raise ConfigError(f"the address of '{name}' must begin with https://: a key is sent to it")
        self.name = name
        self._url = url.rstrip("/")
        self._key = key
        self._sleep = sleep
        self._pace = pace or Pace((), sleep)

    def __repr__(self) -> str:
        return f"Client({self.name!r})"

    def once(self, ask: Ask) -> dict[str, Any]:
        """Sends a request, once. Raises `BusyError`, `UnclearError`, `ProviderError`."""
        import httpx2

        self._pace.wait(ask.method, ask.path)
        try:
            answer = self._send(ask)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise ProviderError(f"'{self.name}' cannot be reached: {type(error).__name__}", "check the line") from None
        except (httpx2.HTTPError, httpx2.StreamError, _TooLongError) as error:
            raise UnclearError(
                f"'{self.name}' did not answer {ask.method} {ask.path}: {type(error).__name__}"
            ) from None
        status, headers, content = answer
        if status < 300:  # after a refusal who asks again waits by itself
            self._pace.heed(headers)
        table = _table(content)
        if status < 300 and table is not None:
            return table
        raise self._refusal(ask, status, headers, table if table is not None else content)

    def steady(self, ask: Ask) -> dict[str, Any]:
        """As `once`, again while the provider is busy or unclear: for what may be done twice."""
        for left in reversed(range(TRIES)):
            try:
                return self.once(ask)
            except BusyError as error:
                if not left or error.kind == DAILY:
                    raise
                self._sleep(min(error.wait, LONGEST_WAIT))
            except UnclearError:
                if not left:
                    raise
                self._sleep(2.0 ** (TRIES - left))
        raise AssertionError("unreachable")

    def _send(self, ask: Ask) -> tuple[int, Mapping[str, str], bytes]:
        import httpx2

        headers = {"Authorization": f"Bearer {self._key}", "User-Agent": f"sosie/{__version__}"}
        body = None if ask.body is None else json.dumps(ask.body).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        found, until = bytearray(), time.monotonic() + SECONDS
        # A connection for each request: they are few, and none is left open to be reused when it is dead.
        with (
            httpx2.Client(timeout=httpx2.Timeout(SECONDS, connect=15.0), follow_redirects=False) as http,
            http.stream(
                ask.method, self._url + ask.path, params=dict(ask.query or {}), content=body, headers=headers
            ) as answer,
        ):
            for piece in answer.iter_bytes():
                found += piece
                if len(found) > MOST or time.monotonic() > until:
                    raise _TooLongError
            return answer.status_code, dict(answer.headers), bytes(found)

    def _refusal(
        self, ask: Ask, status: int, headers: Mapping[str, str], said: dict[str, Any] | bytes
    ) -> ProviderError:
        kind, why = _reason(said)
        why = plain(why.replace(self._key, "...") if self._key else why)
        text = f"'{self.name}' refused {ask.method} {ask.path}: {why or 'no reason'} ({status})"
        refusal = self._of_status(status, headers, text, kind)
        refusal.table = said if isinstance(said, dict) else {}
        return refusal

    @staticmethod
    def _of_status(status: int, headers: Mapping[str, str], text: str, kind: str) -> ProviderError:
        if status == 429:
            busy = BusyError(text, "wait, and ask again", status, kind)
            busy.wait = _wait(headers)
            return busy
        if status >= 500 or 200 <= status < 300:
            return UnclearError(text, "", status, kind)
        return ProviderError(text, HINTS.get(status, ""), status, kind)


HINTS = {
    401: "its key is wrong or has ended: make another on the provider's page",
    403: "its key has no right to this: give it one on the provider's page",
    404: "what was asked for is not there, or is another account's",
    405: "its interface may have changed: update Sosie",
    410: "it is gone: take another",
}
"""What to do about a refusal, by its status."""

DAILY = "search_quota_exceeded"
"""The limit of a day, after which waiting a minute is of no use."""


class _TooLongError(Exception):
    pass


def _wait(headers: Mapping[str, str]) -> float:
    """Seconds until it may be asked again: what it says itself, else when the windows that are used up end."""
    if found := re.fullmatch(r"\d{1,6}(\.\d+)?", headers.get("retry-after", "")):
        return float(found[0])
    return used_up_for(headers) or BusyError.wait


def _table(content: bytes) -> dict[str, Any] | None:
    try:
        return object_or_none(parse_json(content)) if content else {}
    except ValueError:
        return None


def _reason(said: dict[str, Any] | bytes) -> tuple[str, str]:
    """What kind of error a server names, and its words; a page or plain text is cut short."""
    if isinstance(said, bytes):
        text = said[:200].decode("utf-8", "replace")
        return "", "" if "<" in text else text
    kind = str(said.get("error") or said.get("title") or "")
    errors = cast("list[object]", said["errors"]) if isinstance(said.get("errors"), list) else []
    fields = "; ".join(str(one) for one in errors[:5])
    return kind, ": ".join(filter(None, (kind, str(said.get("msg") or said.get("detail") or ""), fields)))


def as_object(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; none of anything else."""
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", one) for one in found if isinstance(one, dict)]
