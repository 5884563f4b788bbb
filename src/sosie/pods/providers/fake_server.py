"""What the fakes of the providers have in common: a server on this machine that asks for a key and answers in JSON."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from sosie.files.foreign import object_or_none, parse_json


@dataclass(frozen=True)
class Answer:
    """A status, and what goes with it: JSON, plain text where `body` is a string, nothing where it is None."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class Thresholds:
    """Seconds between two requests, by method and pattern of the path, as Vast.ai has it; `now` is for tests."""

    rows: Mapping[tuple[str, str], float]
    now: Callable[[], float] = time.monotonic
    last: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def refused(self, method: str, path: str) -> float | None:
        """The threshold that a request is too early for; else it counts as the last one."""
        for row, seconds in self.rows.items():
            if row[0] == method and re.fullmatch(row[1], path):
                if self.now() - self.last.get(row, float("-inf")) < seconds:
                    return seconds
                self.last[row] = self.now()
        return None


@dataclass
class Windows:
    """Requests in a window of seconds (name: quota, length), as RunPod has it; `now` is for tests."""

    quotas: Mapping[str, tuple[int, int]]
    now: Callable[[], float] = time.monotonic
    began: dict[str, float] = field(default_factory=dict[str, float])
    used: dict[str, int] = field(default_factory=dict[str, int])

    def take(self) -> str:
        """Counts a request; the name of the window that it is too many for, else empty."""
        for name, (_, length) in self.quotas.items():
            if self.now() - self.began.get(name, float("-inf")) >= length:
                self.began[name], self.used[name] = self.now(), 0
        full = next((name for name, (quota, _) in self.quotas.items() if self.used[name] >= quota), "")
        if not full:
            self.used = {name: count + 1 for name, count in self.used.items()}
        return full

    def left(self, name: str) -> int:
        """Whole seconds until a window ends."""
        return math.ceil(self.began.get(name, self.now()) + self.quotas[name][1] - self.now())

    @property
    def headers(self) -> dict[str, str]:
        """What RunPod says of them with every answer."""
        rows = {name: quota - self.used.get(name, 0) for name, (quota, _) in self.quotas.items()}
        policy = ", ".join(f'"{name}";q={quota};w={length}' for name, (quota, length) in self.quotas.items())
        state = ", ".join(f'"{name}";r={rest};t={self.left(name)}' for name, rest in rows.items())
        return {"RateLimit": state, "RateLimit-Policy": policy}


class FakeServer(ABC):
    """The server, from the constructor on until `close`. `KEY` is the account's, which may do everything.

    Each machine has a key of its own, which may ask for that machine, stop it and end it, and nothing else.
    """

    KEY: ClassVar[str]

    def __init__(self, port: int) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def reply(self, method: str, target: str, body: Any) -> Answer:
        """To one request with the right key."""

    @abstractmethod
    def unknown_key(self) -> Answer:
        """To one with another key, or none."""

    @abstractmethod
    def forbidden(self) -> Answer:
        """To one with a machine's key, for something that is not this machine."""

    @abstractmethod
    def own_path(self, key: str) -> str | None:
        """Where the machine with that key of its own is; None if there is none."""

    def answer_to(self, key: str, method: str, target: str, body: Any) -> Answer:
        """To one request, whoever sent it."""
        if key == self.KEY:
            return self.reply(method, target, body)
        own = self.own_path(key)
        if own is None:
            return self.unknown_key()
        is_own = f"{target.partition('?')[0].rstrip('/')}/".startswith(f"{own.rstrip('/')}/")
        return self.reply(method, target, body) if is_own else self.forbidden()

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Until it is interrupted."""
        threading.Event().wait()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = (object_or_none(parse_json(content)) or {}) if content else None
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        answer = self.fake.answer_to(key, self.command, self.path, body)
        text = isinstance(answer.body, str)
        data = b"" if answer.body is None else (answer.body if text else json.dumps(answer.body)).encode()
        self.send_response(answer.status)
        kind = {"Content-Type": "text/plain" if text else "application/json"}
        length = {} if answer.status == 204 else {"Content-Length": str(len(data))}
        for name, value in {**kind, **answer.headers, **length}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - as http.server names them

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server names it
        """Nothing: the requests are kept."""
