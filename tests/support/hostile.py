"""A web server that misbehaves on purpose, and remembers what it was asked and how much it sent."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """One file and how it is served.

    `drop` cuts the connection after that many bytes of each answer (a list: of one answer after the
    other); `first` are status, headers and body of the answers before the file is served at all.
    """

    data: bytes = b""
    etag: str = '"one"'
    modified: str = ""
    kind: str = "application/octet-stream"
    ranges: bool = True
    drop: int | list[int | None] | None = None
    length: int | None = None
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    first: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    only_range: str = ""
    pause: float = 0.0
    piece: int = 65536
    before: Callable[[Served], None] | None = None


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]


class Hostile:
    """The server; `url` is its address. `sent` counts the bytes of bodies."""

    def __init__(self) -> None:
        self.files: dict[str, Served | Callable[[], Served]] = {}
        self.asked: list[Asked] = []
        self.sent = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_GET  # noqa: N815

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # clients that leave early are part of the game

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def paths(self, method: str = "GET") -> list[str]:
        return [asked.path for asked in self.asked if asked.method == method]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {key.lower(): value for key, value in handler.headers.items()}
        self.asked.append(Asked(handler.command, handler.path, headers))
        served = self.files.get(handler.path)
        if served is None:
            self._send(handler, 404, {"X-Error-Code": "EntryNotFound"}, b"no such file")
            return
        if not isinstance(served, Served):
            served = served()
        if served.before is not None:
            served.before(served)
        if served.first:
            self._send(handler, *served.first.pop(0))
            return
        self._file(handler, served, headers)

    def _send(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _file(self, handler: BaseHTTPRequestHandler, served: Served, asked: dict[str, str]) -> None:
        start, status = 0, 200
        match = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        same = asked.get("if-range", served.etag) in (served.etag, served.modified)
        if match and served.ranges and same:
            start, status = int(match[1]), 206
        total = len(served.data)
        if start >= total and status == 206:
            self._send(handler, 416, {"Content-Range": f"bytes */{total}"}, b"")
            return
        body = served.data[start:]
        handler.send_response(status)
        headers = {"Content-Type": served.kind, "ETag": served.etag, "Last-Modified": served.modified}
        if status == 206:
            headers["Content-Range"] = served.only_range or f"bytes {start}-{total - 1}/{total}"
        if served.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body) if served.length is None else served.length)
        for name, value in {**headers, **served.headers}.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        drop = served.drop.pop(0) if isinstance(served.drop, list) and served.drop else served.drop
        limit = len(body) if not isinstance(drop, int) else min(drop, len(body))
        for at in range(0, limit, served.piece):
            piece = body[at : min(at + served.piece, limit)]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if served.chunked else piece)
            self.sent += len(piece)
            if served.pause:
                time.sleep(served.pause)
        if limit < len(body) or served.length is not None:
            handler.close_connection = True
            handler.connection.close()
        elif served.chunked:
            handler.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    try:
        yield server
    finally:
        server.close()
